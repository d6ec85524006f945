"""HTTP of bert-serving-start: the real program, asked as its users ask it."""

import html
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import browser
import keras
import numpy as np
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from scipy.special import softmax
from serving import TINY, ServerProcess, tiny_encoder

from bert_tf import checkpoints, heads
from bert_tf.serving import BertClient, assets, flags, rest
from bert_tf.serving.rows import RowMaker

TEXTS = ["we liked this film", "the book was bad ||| he never read it", "", "学习"]
LABELS = ["bad", "good", "中立"]
SIZE = 32
PATIENCE = 120


def ready(server):
    """When all its workers are; /readyz speaks of one."""
    deadline = time.monotonic() + PATIENCE
    while not all_ready(requests.get(f"{server.url}/status/server")):
        assert time.monotonic() < deadline, "the server does not become ready"
        time.sleep(0.1)
    assert requests.get(f"{server.url}/readyz").status_code == 200
    return server


def all_ready(answer):
    status = answer.json() if answer.status_code == 200 else {"ready": False}
    return status["ready"] and status["now"]["ready_workers"] == status["num_worker"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """In Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("model")
    vocab = {"vocab_file": str(TINY / "vocab.txt"), "do_lower_case": True}
    checkpoints.save(tiny_encoder(), f"{folder}/", "huggingface", **vocab)
    return folder


@pytest.fixture(scope="module")
def server(model):
    running = ServerProcess(model, "-num_worker=2", "-show_tokens_to_client", "-http_port=0")
    yield ready(running)
    assert running.end() == 0


def post(server, path, **arguments):
    return requests.post(f"{server.url}/{path}", timeout=PATIENCE, **arguments)


def test_encode(server):
    with BertClient(**server.ports) as client:
        vectors = client.encode(TEXTS)
    came = post(server, "encode", json={"id": 7, "texts": TEXTS, "is_tokenized": False})
    answer = came.json()
    assert came.status_code == answer["status"] == 200 and answer["id"] == 7
    assert answer["result"] == answer["results"]
    np.testing.assert_allclose(answer["result"], vectors, atol=1e-5)
    assert answer["tokens"][0] == ["[CLS]", *TEXTS[0].split(), "[SEP]"]
    assert came.headers["content-encoding"] == "gzip"
    form = post(server, "encode", data={"id": "x", "texts": TEXTS[:2]}).json()
    assert form["id"] == "x"
    np.testing.assert_allclose(form["result"], vectors[:2], atol=1e-5)
    # As curl -d sends JSON: called a form.
    curl = {"content-type": "application/x-www-form-urlencoded"}
    body = b' {"texts": ["we"], "id": 3}'
    assert post(server, "encode", data=body, headers=curl).json()["id"] == 3
    multipart = post(server, "encode", files={"texts": "we"})
    assert multipart.status_code == 400 and "multipart" in multipart.json()["description"]
    broken = post(server, "encode", data="texts=%ff", headers=curl)
    assert broken.status_code == 400 and "not UTF-8" in broken.json()["description"]
    for value, texts in ((None, "we"), (0, "we"), (1, ["we"])):  # as the original takes them
        given = {"texts": [texts], "is_tokenized": value}
        assert post(server, "encode", json=given).status_code == 200
    tokens = {"texts": [TEXTS[0].split()], "is_tokenized": True}
    given = post(server, "encode", json=tokens).json()
    np.testing.assert_allclose(given["result"][0], vectors[0], atol=1e-5)
    came = post(server, "encode", json=tokens, headers={"Origin": "http://a.page"})
    assert came.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 5000, "no JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"id": NaN, "texts": ["we"]}', "no JSON"),
        (b'{"texts": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "no JSON"),
        (b'{"texts": ["we", ' + b"9" * 5000 + b"]}", "no JSON"),
        (b'{"texts": ["\\ud800"]}', "no JSON"),
        (b'{"texts": ["we"], "id": ' + b"[" * 900 + b"]" * 900 + b"}", "id is sent back"),
        (b"{}", "texts is NoneType"),
        (b'{"texts": "we"}', "texts is str"),
        (b'{"texts": []}', "texts is empty"),
        (b'{"texts": [1]}', "text 0 is int"),
        (b'{"texts": [["we"]]}', "text 0 is list"),
        (b'{"texts": ["we"], "is_tokenized": "no"}', "is_tokenized is 'no'"),
    ],
)
def test_what_is_no_request(server, body, words):
    came = post(server, "encode", data=body, headers={"content-type": "application/json"})
    answer = came.json()
    assert came.status_code == answer["status"] == 400
    assert words in answer["description"] and answer["type"] in ("TypeError", "ValueError")


def test_too_large_a_request(server):
    came = post(server, "encode", data=b" " * (65 << 20))
    assert came.status_code == 413 and "64 MB" in came.json()["description"]
    assert post(server, "encode", json={"texts": ["we"]}).status_code == 200


def test_texts_that_are_cut_are_told_and_counted(server):
    def counted():
        text = requests.get(f"{server.url}/metrics").text
        (found,) = re.findall(r"^bert_serving_truncated_texts_total (.*)$", text, re.MULTILINE)
        now = requests.get(f"{server.url}/status/server").json()["now"]
        assert now["truncated_texts"] == float(found)
        return float(found)

    before, long = counted(), "it " * 40
    given = {"texts": ["we", long, "it " * 23, long]}  # 25 pieces fit
    answer = post(server, "encode", json=given).json()
    assert answer["truncated"] == {"count": 2, "rows": [1, 3]}
    body = {"instances": ["we", long]}
    answer = post(server, "v1/models/bert:predict", json=body).json()
    assert answer["truncated"] == {"count": 1, "rows": [1]}
    assert counted() == before + 3
    answer = post(server, "encode", json={"texts": ["we"]}).json()
    assert "truncated" not in answer and counted() == before + 3


def test_status(server):
    status = requests.get(f"{server.url}/status/server").json()
    assert status["server_version"] == "1.10.0" and status["statistic"]["num_data_request"] >= 0
    assert f":{status['http_port']}" in server.url
    client = requests.get(f"{server.url}/status/client").json()
    assert len(bytes(client["identity"])) == 16 and client["num_request"] > 0
    assert requests.get(f"{server.url}/healthz").text == "ok"
    text = requests.get(f"{server.url}/metrics").text
    found = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert found["bert_serving_ready_workers"] == 2 and found["bert_serving_texts_total"] > 0
    assert requests.get(f"{server.url}/nothing").status_code == 404
    assert requests.get(f"{server.url}/encode").status_code == 405


def test_vectors_as_tf_serving_gives_them(server):
    pair = {"text_a": "the book was bad", "text_b": "he never read it"}
    body = {"signature_name": "serving_default", "instances": [TEXTS[0], pair]}
    answer = post(server, "v1/models/bert:predict", json=body).json()
    vectors = post(server, "encode", json={"texts": TEXTS[:2]}).json()["result"]
    np.testing.assert_allclose(answer["predictions"], vectors, atol=1e-5)
    columns = {"inputs": {"text_a": [TEXTS[0], pair["text_a"]], "text_b": ["", pair["text_b"]]}}
    outputs = post(server, "v1/models/bert/versions/1:predict", json=columns).json()["outputs"]
    np.testing.assert_allclose(outputs, vectors, atol=1e-5)
    # What parts a pair in bert-as-service's texts does not here.
    whole = post(server, "v1/models/bert:predict", json={"instances": [TEXTS[1]]}).json()
    assert abs(np.subtract(whole["predictions"][0], vectors[1])).max() > 1e-3
    (state,) = requests.get(f"{server.url}/v1/models/bert").json()["model_version_status"]
    assert state["state"] == "AVAILABLE" and state["version"] == "1"
    for path in ("v1/models/other:predict", "v1/models/bert:classify"):
        came = post(server, path, json=body)
        assert came.status_code == 404 and "the model bert" in came.json()["error"]


@pytest.mark.parametrize(
    "body",
    [3, {}, {"instances": []}, {"instances": "we"}, {"instances": [1]}, {"instances": [{}]}]
    + [{"instances": [{"text_a": "a", "c": "d"}]}, {"instances": [{"text_b": "a"}]}]
    + [{"instances": ["a"], "inputs": ["a"]}, {"inputs": {"text_a": "a"}}, {"inputs": {}}]
    + [{"inputs": {"text_a": ["a"], "text_b": []}}, {"instances": ["a"], "signature_name": "x"}]
    + [{"instances": [{"b64": "////"}]}, {"instances": {"a": 1}}]
    + [
        {"instances": ["a"], "signature_name": ["x"]},
        {"instances": [{"b64": "!"}]},
        {"instances": ["a"], "more": 1},
        {"instances": [[]]},
    ],
)
def test_what_tf_serving_would_refuse_too(server, body):
    came = post(server, "v1/models/bert:predict", json=body)
    assert came.status_code == 400 and came.json()["error"]


def test_no_answer_is_crossed(server):
    texts = ["we " * (n % 20) + "it " * (n // 20) for n in range(200)]
    vectors = np.array(post(server, "encode", json={"texts": texts}).json()["result"])

    def ask(number):
        body = {"instances": [texts[number]]}
        (found,) = post(server, "v1/models/bert:predict", json=body).json()["predictions"]
        return found

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, range(200)))
    np.testing.assert_allclose(found, vectors, atol=1e-5)


def test_the_process_that_speaks_http_is_started_again(server):
    victim = server.children()[-1]
    os.kill(victim, signal.SIGKILL)
    # The connection waits until there is one again.
    assert post(server, "encode", json={"texts": ["we"]}).status_code == 200
    assert victim not in server.children()


def test_a_client_that_is_slow_holds_up_nobody(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /encode HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert post(server, "encode", json={"texts": ["we"]}).status_code == 200


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_the_status(server, tmp_path):
    post(server, "encode", json={"texts": ["we"] * 40})
    arguments = "--dump-dom", "--virtual-time-budget=9000"
    dom = html.unescape(browser.printed(server.url, tmp_path, *arguments))
    assert '<p id="state" class="">ready: 2 of 2 workers' in dom
    tiles = re.findall(r'<div class="tile"><b>([^<]*)</b><span>([^<]*)</span>', dom)
    shown = {name: value for value, name in tiles}
    assert len(shown) == 11 and int(shown["texts"].replace(",", "")) >= 40
    assert shown["latency, median"].endswith(" ms")
    assert len(re.findall(r"<span>≤ \d+</span>", dom)) == 10  # bars
    assert re.search(r'<polyline points="[\d., ]+"', dom)
    assert f"<td>http_port</td><td>{server.url.rpartition(':')[2]}</td>" in dom


def classifier(folder, **changes):
    """A classifier of three labels in Hugging Face's layout; `changes` to its config.json."""
    config = tiny_encoder().config
    keras.utils.set_random_seed(5)
    made = heads.classifier(config, len(LABELS))
    vocab = {"vocab_file": str(TINY / "vocab.txt"), "do_lower_case": True}
    checkpoints.save(made, f"{folder}/", "huggingface", labels=LABELS, **vocab)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return made


def test_a_classifier_answers_by_the_names_of_an_export(tmp_path):
    made = classifier(tmp_path)
    given = ["-pooling_strategy=CLASSIFICATION", "-model_name=polarity", "-http_port=0"]
    running = ready(ServerProcess(tmp_path, *given))
    body = {"instances": [TEXTS[0], {"text_a": "bad", "text_b": "funny"}]}
    found = post(running, "v1/models/polarity:predict", json=body).json()["predictions"]
    _, tokenizer = checkpoints.architecture(tmp_path)
    ids = np.array([tokenizer.convert_tokens_to_ids(["[CLS]", *TEXTS[0].split(), "[SEP]"])])
    fed = {"input_ids": ids, "input_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    expected = softmax(made(fed, training=False)["logits"].numpy()[0])
    np.testing.assert_allclose(found[0]["probabilities"], expected, atol=1e-5)
    assert found[0]["label_ids"] == expected.argmax()
    assert found[1]["labels"] == LABELS[found[1]["label_ids"]]
    # What was accepted is answered although the server is told to end.
    with ThreadPoolExecutor(1) as pool:
        body = {"instances": ["he saw it again and again"] * 3000}
        asked = pool.submit(post, running, "v1/models/polarity:predict", json=body)
        while requests.get(f"{running.url}/status/server").json()["now"]["open_requests"] == 0:
            assert not asked.done()
        running.process.terminate()
        assert len(asked.result().json()["predictions"]) == 3000
    assert running.wait() == 0


def planned(folder, *given):
    """What the server plans, and what a row holds of 60 words."""
    command = ["-model_dir", str(folder), *given]
    plan, tokenizer = assets.read(flags.parser().parse_args(command))
    words = [["we", "it", "he"][n % 3] for n in range(60)]
    row = RowMaker(plan, tokenizer)((" ".join(words), None))
    return plan, tokenizer.convert_ids_to_tokens(row.input_ids.tolist()), row.cut


def test_a_fine_tuned_model_takes_the_length_that_it_was_trained_for(tmp_path):
    classifier(tmp_path)
    head = "--pooling_strategy=CLASSIFICATION"
    plan, pieces, cut = planned(tmp_path, head)  # no length is noted
    assert plan.max_length == plan.arguments.max_seq_len == 64 and len(pieces) == 62 and not cut
    plan, pieces, cut = planned(tmp_path)
    assert plan.max_length == len(pieces) == 25 and cut and "the default" in plan.notices[0]
    task = {"task_type": "classification", "max_seq_length": 40, "long_text": "head_tail"}
    (tmp_path / "task.json").write_text(json.dumps(task))
    plan, pieces, cut = planned(tmp_path, head)
    assert plan.max_length == plan.arguments.max_seq_len == len(pieces) == 40 and cut
    assert pieces[-4:] == ["we", "it", "he", "[SEP]"] and len(plan.notices) == 1
    assert planned(tmp_path)[0].max_length == 40
    plan, pieces, _ = planned(tmp_path, head, "-max_seq_len", "25")
    assert len(pieces) == 25 and "WARNING: -max_seq_len=25 is less than the 40" in plan.notices[1]
    (tmp_path / "task.json").write_text(json.dumps(task | {"long_text": "windows"}))
    assert (
        "WARNING: this model was trained with --long_text=windows"
        in planned(tmp_path, head)[0].notices[1]
    )
    for wrong in ("40", 1000, -1, None):
        (tmp_path / "task.json").write_text(json.dumps(task | {"max_seq_length": wrong}))
        if wrong is None:
            assert planned(tmp_path, head)[0].max_length == 64
        else:
            with pytest.raises(ValueError, match="task.json: max_seq_length="):
                planned(tmp_path, head)
    encoder = {"task_type": "masked_lm", "max_seq_length": 40}
    (tmp_path / "task.json").write_text(json.dumps(encoder))
    assert planned(tmp_path)[0].max_length == 25


def test_outputs_by_task(tmp_path):
    """Also those of a model of several labels a text, which only config.json tells."""
    classifier(tmp_path, problem_type="multi_label_classification")
    command = ["-model_dir", str(tmp_path), "-pooling_strategy"]
    plan, _ = assets.read(flags.parser().parse_args([*command, "CLASSIFICATION"]))
    assert plan.task_type == "multilabel"
    scores = np.array([[0.25, 0.5, 0.75]])
    (row,) = rest.answer({"instances": ["a"]}, scores, plan)["predictions"]
    assert row["label_ids"] == [0, 1, 1] and row["labels"] == ["", "good", "中立"]
    np.testing.assert_array_equal(row["probabilities"], scores[0])
    columns = rest.answer({"inputs": ["a"]}, scores, plan)["outputs"]
    assert columns["label_ids"] == [[0, 1, 1]] and set(columns) == set(row)
    with pytest.raises(ValueError, match="is a model for multilabel"):
        assets.read(flags.parser().parse_args([*command, "REGRESSION"]))


def test_a_busy_server_and_a_taken_port(model):
    given = ["-max_waiting=100", "-num_worker=1", "-http_port=0"]
    running = ready(ServerProcess(model, *given))
    found = []

    def ask():
        came = post(running, "encode", json={"texts": ["he saw it again and again"] * 100})
        found.append((came.status_code, came.headers.get("retry-after")))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (200, None) in found and set(found) <= {(200, None), (503, "1")}
    port = running.url.rpartition(":")[2]
    with pytest.raises(RuntimeError, match=f"-http_port={port}: Address already in use"):
        ServerProcess(model, f"-http_port={port}")
    assert running.end() == 0

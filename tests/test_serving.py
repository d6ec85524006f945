"""bert-serving-start as a process, with bert-as-service's own client and with ours."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zmq
from bert_serving.client import BertClient as StockClient
from bert_serving.client import ConcurrentBertClient as StockConcurrentClient
from serving import ROOT, ServerProcess, save, send, tiny_encoder

from bert_tf.serving import (
    AsyncBertClient,
    BertClient,
    ConcurrentBertClient,
    ServerBusyError,
    ServingError,
    benchmark,
)
from bert_tf.tasks import feature_extraction
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig

TEXTS = ["we liked this film", "the book was bad ||| he never read it", "funny", "学习", "it " * 40]
SIZE = 32
PATIENCE = 120_000  # milliseconds, of a busy machine; a hang is an error all the same


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(tiny_encoder(), folder)
    return folder


@pytest.fixture(scope="module")
def expected(model, tmp_path_factory):
    """TEXTS' vectors by extract_features.py."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "input.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    feature_extraction.run(
        FeatureExtractionConfig(
            input_file=str(folder / "input.txt"),
            output_file=str(folder / "vectors.npy"),
            init_checkpoint=str(model),
            layers="-2",
            pooling="mean",
            output_format="npy",
            max_seq_length=25,
        )
    )
    return np.load(folder / "vectors.npy")


@pytest.fixture(scope="module")
def server(model):
    running = ServerProcess(model, "-num_worker=2", "-show_tokens_to_client")
    with BertClient(**running.ports, timeout=PATIENCE) as client:
        client.encode(["one"])
    yield running
    assert running.end() == 0


@pytest.fixture
def stock(server):
    with StockClient(**server.ports, timeout=PATIENCE, check_length=False) as client:
        yield client


def test_vectors_are_those_of_extract_features_alone_or_in_a_crowd(stock, expected):
    np.testing.assert_allclose(stock.encode(TEXTS), expected, atol=1e-5)
    for text, vector in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(stock.encode([text])[0], vector, atol=1e-5)
    crowd = stock.encode(["he saw it " * (n % 9) + "we" for n in range(300)] + TEXTS)
    np.testing.assert_allclose(crowd[300:], expected, atol=1e-5)


def test_what_the_stock_client_does(server, stock, expected):
    assert stock.server_config["max_seq_len"] == 25
    vectors, tokens = stock.encode(TEXTS[:2], show_tokens=True)
    assert tokens[0] == ["[CLS]", "we", "liked", "this", "film", "[SEP]"]
    assert tokens[1].count("[SEP]") == 2
    given = stock.encode([["we", "liked", "this", "film"]], is_tokenized=True)
    np.testing.assert_allclose(given[0], expected[0], atol=1e-5)
    pair = [[*["the", "book", "was", "bad"], "|||", *["he", "never", "read", "it"]]]
    np.testing.assert_allclose(stock.encode(pair, is_tokenized=True)[0], expected[1], atol=1e-5)
    for text in TEXTS:
        stock.encode([text], blocking=False)
    np.testing.assert_allclose(stock.fetch_all(concat=True), expected, atol=1e-5)
    found = sorted(stock.encode_async([text] for text in TEXTS))
    np.testing.assert_allclose(np.concatenate([x.embedding for x in found]), expected, atol=1e-5)
    statistic = stock.server_status["statistic"]
    assert statistic["num_data_request"] > 5 and statistic["num_active_client"] > 1
    with StockClient(**server.ports, output_fmt="list", timeout=PATIENCE) as lists:
        assert isinstance(lists.encode(["we"]), list)


def test_stock_clients_in_threads_and_by_one_identity(server, expected):
    with StockConcurrentClient(max_concurrency=4, **server.ports, timeout=PATIENCE) as clients:
        wrong = []

        def ask(place):
            for _ in range(10):
                vector = clients.encode(texts=[TEXTS[place]])[0]
                if abs(vector - expected[place]).max() > 1e-5:
                    wrong.append(place)

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
    both = [
        StockClient(**server.ports, identity=b"all of us", ignore_all_checks=True, timeout=PATIENCE)
        for _ in range(2)
    ]
    time.sleep(1)  # for the subscriptions of both
    both[1].pending_request.add(both[0].request_id + 1)
    both[0].encode(["we"], blocking=False)
    for client in both:
        (response,) = client.fetch()
        assert response.embedding.shape == (1, SIZE)
        client.close()


def test_no_first_answer_is_lost(server):
    for _ in range(60):
        with StockClient(**server.ports, timeout=10_000) as client:
            assert client.encode(["we"]).shape == (1, SIZE)


def test_no_clone_loses_its_first_answer(server):
    """Clones of a client under load, one after the other and all at once; and without the first."""
    ended = threading.Event()

    def load():
        with StockClient(**server.ports, timeout=PATIENCE, check_length=False) as client:
            while not ended.is_set():
                client.encode(["he saw it"] * 40)

    def clone(identity):
        StockClient(**server.ports, identity=identity, timeout=10_000).close()

    busy = [threading.Thread(target=load) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        with StockClient(**server.ports, timeout=10_000) as first:
            for _ in range(20):
                clone(first.identity)
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(clone, [first.identity] * 40))
        for _ in range(20):
            clone(b"a name that was given")
    finally:
        ended.set()
        for thread in busy:
            thread.join()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"{", b"3", b'"we"', b"[3]", b"[null]", b'["a", ["b"]]', b'[["a", 1]]']
    + [b'[{"text": "a"}]', b"[" * 100_000, b'[{"text_a": 1}]'],
)
def test_what_is_no_request_is_refused(stock, body):
    number = stock._send(body, 1)
    with pytest.raises(TypeError, match="error: .*"):
        stock._recv_ndarray(number)


def test_no_depth_of_brackets_ends_the_server(server, stock):
    """At one depth json reads a list and cannot write it any more."""
    nested = [b'["a", ' + b"[" * n + b"]" * n + b"]" for n in range(900, 1010)]
    for body in [*nested, b'["a", {"text_a": ' + b"[" * 985 + b"]" * 985 + b"}]"]:
        with pytest.raises(TypeError, match="error: "):
            stock._recv_ndarray(stock._send(body, 1))
    assert stock.encode(["we"]).shape == (1, SIZE)


def test_texts_that_the_original_never_answered(stock):
    body = b'["", "  ", "we"]'
    _, vectors, _ = stock._recv_ndarray(stock._send(body, 3))
    assert vectors.shape == (3, SIZE) and np.isfinite(vectors).all()
    _, vectors, _ = stock._recv_ndarray(stock._send(b"[]", 0))
    assert vectors.shape == (0, SIZE)


def test_garbage_harms_nobody(server, stock, expected):
    number = random.Random(1)
    garbage = [
        [number.randbytes(number.choice((0, 1, 40, 3000))) for _ in range(number.randint(1, 7))]
        for _ in range(500)
    ]
    with_marks = [[b"a#b@c", b'["we"]', b"77", b"1"], [b"x" * 300, b'["we"]', b"1", b"1"]]
    digits = [[b"me", b'["we"]', b"\xb2", b"1"], [b"me", b'["we"]', b"9" * 5000, b"1"]]
    send(server, *garbage, *with_marks, *digits)
    # A subscription to everything gets nothing.
    with zmq.Context() as context, context.socket(zmq.SUB) as spy:
        spy.setsockopt(zmq.SUBSCRIBE, b"")
        spy.connect(f"tcp://localhost:{server.port_out}")
        time.sleep(0.2)
        np.testing.assert_allclose(stock.encode(TEXTS), expected, atol=1e-5)
        assert not spy.poll(200)
    settings = {"timeout": PATIENCE, "check_length": False}
    with StockClient(**server.ports, identity=b"a#b@c", **settings) as client:
        np.testing.assert_allclose(client.encode(TEXTS), expected, atol=1e-5)


def test_too_large_a_message_ends_its_connection_only(server, stock, expected):
    send(server, [b"me", b"x" * (65 << 20), b"1", b"1"])
    np.testing.assert_allclose(stock.encode(TEXTS), expected, atol=1e-5)


def test_strangers_do_not_end_the_server(server, stock):
    send(server, [b"0", b"TERMINATION", b"0", b"0"])
    command = "import sys; from bert_tf.serving.commands import terminate; sys.exit(terminate())"
    ports = [f"-port={server.port}", f"-port_out={server.port_out}"]
    ran = subprocess.run(
        [sys.executable, "-c", command, *ports], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 1 and "-allow_remote_terminate" in ran.stderr
    assert stock.encode(["we"]).shape == (1, SIZE)


def test_our_clients(server, expected):
    ports = {**server.ports, "timeout": PATIENCE}
    with BertClient(**ports, identity="a name") as client:
        pair = {"text_a": "the book was bad", "text_b": "he never read it"}
        np.testing.assert_allclose(client.encode([pair])[0], expected[1], atol=1e-5)
        with pytest.warns(UserWarning, match=r"cut 1 text\(s\) to its max_seq_len=25: 4$"):
            vectors, tokens, cut = client.encode(TEXTS, show_tokens=True, show_truncated=True)
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert len(tokens[4]) == 25 and cut == [4]
        assert client.server_status["now"]["truncated_texts"] > 0
        vectors, cut = client.encode(["we"], show_truncated=True)
        assert vectors.shape == (1, SIZE) and cut == []
    with BertClient(**ports, check_length=False) as client:
        client.encode(TEXTS, blocking=False)
        (response,) = client.fetch()
        assert list(response.truncated) == [4] and len(response) == 3
        found = client.encode_async(([text] for text in TEXTS * 10), max_num_batch=45)
        ids = sorted(response.id for response in found)
        assert ids == list(range(ids[0], ids[0] + 45))
        for wrong in (3, [], [3], [["we"]]):
            with pytest.raises((TypeError, ValueError)):
                client.encode(wrong)
        # Blocking and non-blocking calls, mixed.
        client.encode(["we"], blocking=False)
        client.encode(["it"])
        assert len(client.fetch_all()) == 1
        assert client.fetch_all() == []
    with ConcurrentBertClient(max_concurrency=2, **ports) as clients:
        assert clients.encode(["we"]).shape == (1, SIZE)
        assert clients.status["num_request"] > 0

    async def many():
        async with AsyncBertClient(**ports) as client:
            found = await asyncio.gather(*(client.encode([text]) for text in TEXTS * 20))
            with pytest.raises(ServingError, match="no JSON"):
                await client.command(b"{")
            return np.concatenate(found), await client.server_status()

    vectors, status = asyncio.run(many())
    np.testing.assert_allclose(vectors, np.tile(expected, (20, 1)), atol=1e-5)
    assert status["ready"] and status["now"]["answers"]["failed"] == 0


def test_a_client_does_not_wait_for_ever():
    with pytest.raises(TimeoutError, match="1000 ms"):
        BertClient(port=1, port_out=1, timeout=1000)


def test_a_killed_worker_costs_no_answer(server, expected):
    """Under load, three times; every answer comes and is the right one."""
    wrong: list[int] = []
    ended = threading.Event()

    def ask(place):
        with BertClient(**server.ports, timeout=PATIENCE, check_length=False) as client:
            while not ended.is_set():
                if abs(client.encode(TEXTS)[place] - expected[place]).max() > 1e-5:
                    wrong.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    killed = set()
    for _ in range(3):
        time.sleep(1)
        killed.add(server.kill_worker())
    time.sleep(1)
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong and not killed & set(server.workers())
    with BertClient(**server.ports, timeout=PATIENCE) as client:
        assert client.server_status["now"]["worker_restarts"] == 3


def test_a_server_that_is_started_again_under_load(model, expected):
    """No answer is crossed; what got lost on the way is told in time, and asked once more."""
    running = ServerProcess(model)
    found, lost = [0] * 3, []
    ended = threading.Event()

    def ask(place):
        with BertClient(**running.ports, timeout=PATIENCE, check_length=False) as client:
            client.timeout = 2000
            while not ended.is_set():
                try:
                    vectors = client.encode(TEXTS)
                except (TimeoutError, ServingError) as error:
                    lost.append(str(error))
                    continue
                np.testing.assert_allclose(vectors, expected, atol=1e-5)
                found[place] += 1

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, place) for place in range(3)]
        ports = f"-port={running.port}", f"-port_out={running.port_out}"
        for end in (signal.SIGTERM, signal.SIGKILL):
            await_more(found)
            running.process.send_signal(end)
            assert running.wait() == (0 if end == signal.SIGTERM else -9)
            running = ServerProcess(model, *ports)
        await_more(found)
        ended.set()
        for one in asked:
            one.result()
    assert all("2000 ms" in words or "stopping" in words for words in lost)
    assert running.end() == 0


def await_more(found):
    """Until every client got an answer more, which takes a new server's start."""
    before, end = list(found), time.monotonic() + PATIENCE / 1000
    while any(now == then for now, then in zip(found, before, strict=True)):
        assert time.monotonic() < end, found
        time.sleep(0.05)


@pytest.mark.slow
def test_a_hundred_thousand_requests(server):
    texts = [" ".join(["we", "it", "he"][n % 3] for n in range(i)) + f" {i}" for i in range(200)]
    with BertClient(**server.ports, check_length=False, timeout=PATIENCE) as client:
        expected = client.encode(texts)

    def ask(number):
        order = random.Random(number)
        with StockClient(**server.ports, timeout=PATIENCE, check_length=False) as client:
            for _ in range(100_000 // 25):
                chosen = [order.randrange(200) for _ in range(order.choice((1, 1, 1, 2, 5)))]
                vectors = client.encode([texts[i] for i in chosen])
                np.testing.assert_allclose(vectors, expected[chosen], atol=1e-5)

    with ThreadPoolExecutor(25) as pool:
        list(pool.map(ask, range(25)))


def test_a_client_that_dies_in_the_middle(server, stock, expected):
    client = BertClient(**server.ports, timeout=PATIENCE)
    client.encode(["we"] * 2000, blocking=False)
    client.close()
    np.testing.assert_allclose(stock.encode(TEXTS), expected, atol=1e-5)


def test_busy_then_sigterm_finishes_what_was_accepted(model):
    running = ServerProcess(model, "-max_waiting=2000", "-cpu")
    with BertClient(**running.ports, timeout=PATIENCE, check_length=False) as client:
        client.encode(["we"])
        for _ in range(2):
            client.encode(["he saw it again"] * 1000, blocking=False)
        with pytest.raises(ServerBusyError, match="2000 texts are before yours"):
            client.encode(["one more"] * 1000)
        with pytest.raises(ServingError, match="-max_waiting"):
            client.encode(["too many"] * 2001)
        running.process.terminate()
        assert [len(vectors) for vectors in client.fetch_all()] == [1000, 1000]
    assert running.wait() == 0


def test_sigterm_while_a_client_reads_slowly(model):
    """Answers that it has not taken when all is computed are not lost."""
    running = ServerProcess(model, "-pooling_strategy=NONE", "-priority_batch_size=1")
    with zmq.Context() as context, context.socket(zmq.SUB) as slow:
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.SUBSCRIBE, b"slow")
        slow.connect(f"tcp://localhost:{running.port_out}")
        body = b"[" + b",".join([b'"he saw it again"'] * 1000) + b"]"
        send(running, *([b"slow", body, b"%d" % n, b"1000"] for n in range(1, 31)))
        with BertClient(**running.ports, timeout=PATIENCE) as other:
            while other.server_status["now"]["answers"]["vectors"] < 30:
                time.sleep(0.1)
        running.process.terminate()
        numbers = []
        while len(numbers) < 30 and slow.poll(PATIENCE):
            numbers.append(int(slow.recv_multipart()[-1]))
            time.sleep(0.05)
    assert numbers == list(range(1, 31))
    assert running.wait() == 0


def test_termination_where_it_is_allowed(model):
    running = ServerProcess(model, "-allow_remote_terminate", "-cpu")
    send(running, [b"0", b"TERMINATION", b"0", b"0"])
    assert running.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_while_the_model_is_loaded(model, number):
    """Every process of the terminal gets Ctrl-C; one request is waiting."""
    running = ServerProcess(model, "-http_port=0", "--num_worker=2", start_new_session=True)
    send(running, [b"me", b'["we"]', b"1", b"1"])
    time.sleep(0.5)
    began = time.monotonic()
    kill = os.killpg if number == signal.SIGINT else os.kill
    kill(running.process.pid, number)
    said = running.process.stdout.read()
    assert running.wait() == 0 and time.monotonic() - began < 10
    assert "Traceback" not in said and "ready: 1 of 2" not in said


def test_the_start_is_quiet_and_says_when_all_are_ready(model):
    running = ServerProcess(model, "--num_worker=2", "--cpu=true")
    lines = [running.process.stdout.readline() for _ in range(3)]
    assert lines == [
        "texts are cut to 25 pieces (the default; -max_seq_len changes it)\n",
        "ready: 1 of 2 workers\n",
        "ready: 2 of 2 workers\n",
    ]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.stdout.read().startswith("finishing what was accepted")
    assert running.wait() == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-max_seq_len=1000"], "exceeds this model's"),
        (["-pooling_layer", "9"], "-pooling_layer=9"),
        (["-ckpt_name=nothing"], "-model_dir"),
        (["-port=5555", "-port_out=5555"], "-port and -port_out are both 5555"),
        (["-pooling_strategy=CLASSIFICATION"], "no classifier"),
    ],
)
def test_flags_that_do_not_fit(model, flags, message):
    command = [sys.executable, "-m", "bert_tf.serving", "-model_dir", str(model)]
    command += ["-port=0", "-port_out=0", *flags]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1 and message in ran.stderr


@pytest.mark.parametrize(
    ("flags", "length"),
    [
        ((), 25),
        (("-max_seq_len=NONE",), 12),
        (("-max_seq_len=NONE", "-fixed_embed_length"), 64),
    ],
)
def test_vectors_of_every_token(model, flags, length):
    """[N, T, D]: T is -max_seq_len, else the longest of the request, or the model's limit."""
    running = ServerProcess(model, "-pooling_strategy=NONE", *flags)
    with StockClient(**running.ports, timeout=PATIENCE, check_length=False) as client:
        texts = ["we", "he saw it here and there", "it"]
        vectors = client.encode(texts)
        assert vectors.shape == (3, length, SIZE)
        tokens = (vectors != 0).any(-1).sum(-1)
        assert tokens.tolist() == [3, 12, 3]
        np.testing.assert_allclose(client.encode(["we"])[0, :3], vectors[0, :3], atol=1e-5)
    assert running.end() == 0


def test_the_benchmark_writes_its_tables(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("we saw it\nand 学习\n", encoding="utf-8")
    command = ["-model_dir", str(model), "-num_repeat=2", "-client_vocab_file=words.txt"]
    command += ["-test_client_batch_size", "1", "64", "-test_num_client", "3"]
    command += ["-test_max_seq_len", "1000", "-test_max_batch_size", "-test_pooling_layer"]
    assert benchmark.main(command) == 0
    result = (tmp_path / "benchmark-1.result").read_text(encoding="utf-8")
    assert [line for line in result.splitlines() if "texts/s" in line] == [
        f"| `{name}` | texts/s |" for name in ("client_batch_size", "max_seq_len", "num_client")
    ]
    assert len(re.findall(r"^\| (1|64|3) \| [1-9]\d* \|$", result, re.MULTILINE)) == 3
    assert "| 1000 | -max_seq_len=1000 exceeds this model's" in result
    (tmp_path / "words.txt").write_text("")
    assert benchmark.main(command) == 1
    assert "-client_vocab_file=words.txt is empty" in capsys.readouterr().err

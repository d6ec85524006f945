"""The server's parts by themselves: protocol, scheduler, outbox, jobs, statistics."""

import asyncio
import configparser
import json
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.serving import flags, http_limits, protocol
from bert_tf.serving.jobs import Job, Ticket
from bert_tf.serving.outbox import Latecomers, Outbox
from bert_tf.serving.protocol import Refused, Request
from bert_tf.serving.rows import Row, features
from bert_tf.serving.scheduler import MAX_TOKENS, WORTH_TOKENS, Scheduler
from bert_tf.serving.statistics import Statistics


def job(texts=1, small=True):
    return Job(Request(b"me", b"", b"1"), [("we", None)] * texts, 0, small)


def ticket(owner, place=0, length=5, arrived=0.0, deaths=0):
    return Ticket(owner, place, Row(np.arange(length), length, True), arrived, deaths)


# ------------------------------------------------------------------------------------ scheduler

WAITING = st.lists(
    st.tuples(st.integers(2, 512), st.booleans(), st.sampled_from([0, 0, 0, 0, 1, 2])), max_size=80
)


@given(WAITING, st.integers(1, 64), st.integers(1, 4), st.data())
@settings(max_examples=300, deadline=None)
def test_every_row_is_taken_once_and_batches_keep_their_limits(waiting, max_rows, workers, data):
    scheduler = Scheduler(max_rows)
    added = [
        ticket(job(small=small), length=length, arrived=float(number), deaths=deaths)
        for number, (length, small, deaths) in enumerate(waiting)
    ]
    for one in added:
        scheduler.add(one)
    taken = []
    while scheduler.size:
        oldest = scheduler.waiting_since()
        assert oldest == min(x.arrived for x in added if x not in taken)
        batch = scheduler.take(workers, data.draw(st.integers(0, workers)))
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or sum(len(one.row.input_ids) for one in batch) <= MAX_TOKENS
        assert len(batch) == 1 or all(one.deaths < 2 for one in batch)
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, added))
    assert scheduler.tokens == 0 and scheduler.waiting_since() is None


def test_small_requests_go_first_but_large_ones_have_their_turn():
    scheduler = Scheduler(max_rows=4)
    large, small = job(1000, small=False), job(1000)
    for place in range(1000):
        scheduler.add(ticket(large, place, length=40))
        scheduler.add(ticket(small, place, length=30))
    owners = []
    for _ in range(40):
        owners += {one.job is large for one in scheduler.take()}
    assert 5 <= sum(owners) <= 15


def test_rows_of_like_length_go_together_and_others_where_those_are_few():
    scheduler = Scheduler(max_rows=256)
    for number in range(400):
        length = (120, 10, 60, 20)[number % 4]
        scheduler.add(ticket(job(), length=length, arrived=number))
    batch = [len(one.row.input_ids) for one in scheduler.take(2)]
    assert set(batch) == {120} and len(batch) == MAX_TOKENS // 120
    few = Scheduler(max_rows=256)
    for number, length in enumerate((60, 120, 10, 61, 20)):
        few.add(ticket(job(), length=length, arrived=number))
    assert [len(one.row.input_ids) for one in few.take()] == [60, 61, 10, 20, 120]


def test_small_requests_of_any_length_go_before_large_ones():
    scheduler, large = Scheduler(max_rows=256), job(400, small=False)
    for place in range(400):
        scheduler.add(ticket(large, place, length=20))
    for length in (20, 60, 100):
        scheduler.add(ticket(job(), length=length))
    batch = scheduler.take()
    assert sum(one.job is not large for one in batch) == 3


def test_idle_workers_share_what_waits():
    scheduler = Scheduler(max_rows=256)
    for _ in range(16):
        scheduler.add(ticket(job(), length=10))
    assert not scheduler.is_worth_a_batch()
    assert [len(scheduler.take(2, idle)) for idle in (2, 1)] == [8, 8]
    for _ in range(WORTH_TOKENS // 10 + 1):
        scheduler.add(ticket(job(), length=10))
    assert scheduler.is_worth_a_batch()


def test_rows_of_ended_requests_are_dropped():
    scheduler = Scheduler(max_rows=256)
    ended, going = job(2), job()
    for owner in (ended, going, ended):
        scheduler.add(ticket(owner))
    ended.ended = True
    assert [one.job for one in scheduler.take()] == [going]
    assert scheduler.size == scheduler.tokens == 0


# ------------------------------------------------------------------------------------- protocol

FRAMES = st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"1", b"me"])), max_size=6)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["text_a", "text_b"]), inner)
    ),
    max_leaves=12,
)


@given(FRAMES)
def test_frames_are_a_request_or_none(frames):
    request = protocol.parse(frames)
    if request is not None:
        assert [request.identity, request.body, request.request_id] == frames[:3]
        assert int(request.request_id) >= 0 and request.identity


@given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary()))
def test_bodies_are_texts_or_refused(body):
    try:
        texts = protocol.parse_texts(body)
    except Refused as refused:
        assert refused.kind == protocol.BAD_REQUEST and str(refused).isprintable()
        return
    for text in texts:
        if isinstance(text, tuple):
            a, b = text
            assert isinstance(a, str) and (b is None or isinstance(b, str))
        else:
            assert all(isinstance(token, str) for token in text)


@given(st.binary(min_size=1, max_size=20), st.binary(min_size=1, max_size=20))
def test_a_topic_begins_with_no_other(one, other):
    """Else a subscription to one would get the other's answers, too."""
    if one != other and b"\0" not in one + other:
        assert not protocol.topic(one).startswith(protocol.topic(other))


@given(st.sampled_from(["float32", "float16"]), st.integers(0, 5), st.integers(1, 4))
def test_vectors_arrive_as_they_were_sent(dtype, rows, size):
    array = np.arange(rows * size).reshape(rows, size).astype(dtype)[:, ::-1]
    frames = protocol.vectors(Request(b"me", b"", b"7"), array, None)
    header = json.loads(frames[1])
    came = np.frombuffer(bytes(frames[2]), header["dtype"]).reshape(header["shape"])
    np.testing.assert_array_equal(came, array)
    assert frames[-1] == b"7"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("-port=x", "-port"),
        ("-port=70000", "from 0 to 65535"),
        ("--batch_wait=nan", "from 0 to 60000"),
        ("-cpu=maybe", "neither true nor false"),
        ("-max_seq_len=3", "4 or more, or NONE"),
        ("-num_worker=1000000", "from 1 to 1024"),
        ("-device_map=-1", "0 or more"),
        ("-priority_batch_size=-1", "0 or more"),
        ("-model_dir=", "the path is empty"),
        ("--max_seq_ln=4", "unrecognized"),
    ],
)
def test_values_that_a_flag_cannot_have(given, words, capsys):
    with pytest.raises(SystemExit):
        flags.parser().parse_args(["-model_dir", "m", given])
    said = capsys.readouterr().err
    assert words in said and given.lstrip("-").partition("=")[0] in said


def test_two_dashes_values_of_switches_and_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = "--model_dir=~/m --max_seq_len 40 -cpu=true -xla --fp16=false --port_in=7"
    found = flags.parser().parse_args(given.split())
    assert found.model_dir == "/home/me/m" and found.max_seq_len == 40 and found.port == 7
    assert found.cpu and found.xla and not found.fp16


# --------------------------------------------------------------------------------------- outbox


@pytest.fixture
def outbox():
    with zmq.Context() as context:
        made = Outbox(context, "tcp://127.0.0.1:0")
        made.address = made.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        yield made
        made.socket.close(0)


def subscriber(outbox, context, identity=b"me", unread=1000):
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, unread)
    socket.setsockopt(zmq.SUBSCRIBE, identity)
    socket.connect(outbox.address)
    return socket


def until(outbox, condition):
    freed, end = 0, time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        outbox.subscriptions()
        freed += outbox.tend(time.monotonic())
    return freed


def test_an_answer_waits_for_its_client_and_is_given_up(outbox):
    frames = [protocol.topic(b"me"), b"{}", b"1"]
    assert outbox.send(frames, 100) == 0 and outbox
    with zmq.Context() as context, subscriber(outbox, context) as socket:
        assert until(outbox, lambda: socket.poll(5)) == 100
        assert socket.recv_multipart() == frames and not outbox
        assert outbox.send(frames, 7) == 7
    until(outbox, lambda: not outbox._subscribers)  # it went
    assert outbox.send(frames, 9) == 0
    assert outbox.tend(time.monotonic() + 29) == 0
    assert outbox.tend(time.monotonic() + 31) == 9
    assert outbox.dropped == 1 and not outbox


def test_a_clone_that_subscribes_late_gets_its_first_answer_alone(outbox):
    def answer(number):
        outbox.asked(Request(b"me", b"", b"%d" % number))
        outbox.send([protocol.topic(b"me"), b"{}", b"%d" % number])

    with zmq.Context() as context, subscriber(outbox, context) as first:
        until(outbox, lambda: outbox._subscribers)
        answer(1)
        answer(1)  # a clone's, whose subscription comes late
        answer(2)
        with subscriber(outbox, context) as clone:
            until(outbox, lambda: clone.poll(5))
            identity, _, number = clone.recv_multipart()
            assert identity.startswith(b"me") and number == b"1"
            with subscriber(outbox, context) as early:  # a clone that has not asked yet
                until(outbox, lambda: outbox._subscribers[protocol.topic(b"me")] == 3)
                assert not early.poll(100)
                answer(1)
                assert early.poll(1000) and early.recv_multipart()[-1] == b"1"
            assert clone.recv_multipart()[-1] == b"1" and not clone.poll(100)
        assert [first.recv_multipart()[-1] for _ in range(4)] == [b"1", b"1", b"2", b"1"]
        assert not first.poll(100)


def test_latecomers_are_forgotten():
    late = Latecomers()
    names = [b"%d\0" % number for number in range(10)]
    for name in names:
        late.request(name, 0.0)
        late.answered([name, b"x" * 100, b"1"])
        late.subscription(b"early " + name, 0.0)
    assert late.subscription(names[0], 1.0) == [names[0], b"x" * 100, b"1"]
    late.tend(9.0)
    assert late.subscription(names[1], 9.0) is not None
    late.tend(11.0)
    assert late.subscription(names[2], 11.0) is None
    late.tend(30.0)
    assert not any((late._early, late._asked, late._answers, late._bytes, late._all))


def test_a_client_that_reads_late_gets_all_in_order(outbox):
    count, size = 300, 100_000
    with zmq.Context() as context, subscriber(outbox, context, unread=1) as socket:
        until(outbox, lambda: outbox._subscribers)
        freed = 0
        for number in range(count):
            answer = [protocol.topic(b"me"), b"x" * size, b"%d" % number]
            freed += outbox.send(answer, size)
        assert outbox and freed < count * size  # what the sockets do not hold is parked
        for number in range(count):
            freed += until(outbox, lambda: socket.poll(5))
            assert socket.recv_multipart()[-1] == b"%d" % number
        assert freed == count * size and not outbox


# ------------------------------------------------------------------------------ HTTP's limits


@pytest.mark.parametrize("gone_after", [0, 1, 3, None])
def test_an_answer_is_held_until_it_is_sent_or_its_client_is_gone(gone_after):
    budget = http_limits.Budget()
    hold = budget.hold()
    content = b"x" * (5 << 19)  # three pieces
    hold.take(len(content))
    sent = []

    async def send(message):
        if len(sent) == gone_after:
            raise OSError
        sent.append(message.get("body", b""))
        assert budget.held == len(content)

    async def receive():
        await asyncio.sleep(60)

    async def serve():
        await http_limits.Answer(content, hold)({"type": "http"}, receive, send)

    if gone_after is None:
        asyncio.run(serve())
        assert b"".join(sent) == content and len(sent) > 3
    else:
        with pytest.raises(BaseException):  # noqa: B017
            asyncio.run(serve())
    assert budget.held == 0


def test_what_is_held_is_bounded():
    budget = http_limits.Budget()
    holds = [budget.hold() for _ in range(9)]
    for hold in holds[:8]:
        hold.take(64 << 20)
    with pytest.raises(Refused, match="busy"):
        holds[8].take(1)
    for hold in holds:
        hold.release()
    assert budget.held == 0


# -------------------------------------------------------------------------------- how it is run

EXAMPLES = Path(__file__).parents[1] / "examples" / "serving"


def test_the_image_starts_it_with_flags_that_it_has():
    text = (EXAMPLES / "Dockerfile").read_text()
    lists = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE))
    program, *given = json.loads(lists["ENTRYPOINT"]) + json.loads(lists["CMD"])
    arguments = flags.parser().parse_args(given)
    assert program == "bert-serving-start" and str(arguments.http_port) in text.split("urlopen")[2]
    exposed = re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)[1].split()
    assert exposed == [str(x) for x in (arguments.port, arguments.port_out, arguments.http_port)]


def test_the_unit_starts_it_with_flags_that_it_has():
    unit = configparser.ConfigParser(comment_prefixes="#")
    unit.optionxform = str
    unit.read(EXAMPLES / "bert-serving.service")
    program, *given = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bert-serving-start")
    assert flags.parser().parse_args(given).num_worker == 2
    # Else SIGTERM would end the workers under what was accepted.
    assert unit["Service"]["KillMode"] == "mixed"


# ------------------------------------------------------------------------- rows, jobs, statistics


@given(st.lists(st.integers(2, 30), min_size=1, max_size=9), st.booleans())
def test_features_hold_the_rows(lengths, mask_special):
    rows = [Row(np.arange(1, n + 1, dtype=np.int32), n, True) for n in lengths]
    batch = features(rows, mask_special)
    assert batch["length"].tolist() == lengths
    for number, n in enumerate(lengths):
        line, start = batch["line"][number], batch["start"][number]
        of = {name: x[line, start : start + n].tolist() for name, x in batch.items() if x.ndim == 2}
        assert of["input_ids"] == [*range(1, n + 1)] and of["position_ids"] == [*range(n)]
        assert set(of["text"]) == {number + 1} and not any(of["segment_ids"])
        assert sum(of["input_mask"]) == n - (2 if mask_special and n > 2 else 0)
    padding = batch["text"] == 0
    assert padding.size - padding.sum() == sum(lengths)
    assert not batch["input_ids"][padding].any() and not batch["input_mask"][padding].any()


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([14] * 8, (8, 14)),
        ([128, 14], (1, 142)),
        ([512, 510], (2, 512)),
        ([512, *[3] * 170], (2, 512)),
        ([25, *[14] * 7], (3, 42)),
        ([14, 17, 20, 22, 22], (5, 22)),
    ],
)
def test_short_rows_share_lines(lengths, shape):
    rows = [Row(np.arange(n, dtype=np.int32), n, True) for n in lengths]
    assert features(rows, False)["input_ids"].shape == shape


@given(st.lists(st.integers(1, 512), min_size=1, max_size=256))
def test_lines_hold_little_padding(lengths):
    rows = [Row(np.zeros(n, np.int32), n, True) for n in lengths]
    lines, width = features(rows, False)["input_ids"].shape
    assert lines * width <= len(lengths) * max(lengths)
    assert width <= 4 * max(lengths) + max(lengths)


@pytest.mark.parametrize(("length", "expected"), [(None, 5), (8, 8)])
def test_vectors_of_tokens_are_padded_with_zeros(length, expected):
    whole = job(2)
    whole.longest = 5
    whole.put(1, np.ones((3, 4)))
    assert not whole.complete
    whole.put(0, np.full((5, 4), 2.0))
    array = whole.array(length)
    assert whole.complete and array.shape == (2, expected, 4)
    assert array[1, :3].all() and not array[1, 3:].any() and array[0, :5].all()


def test_statistics_forget_clients_and_count_all():
    statistics = Statistics()
    for number in range(10_050):
        statistics.request(b"%d" % number, "data", 2)
    found = statistics.original()
    assert found["num_total_client"] == 10_000 and found["num_total_seq"] == 20_100
    assert found["avg_size_per_request"] == 2 and found["num_max_size_per_request"] == 1000
    for rows in (1, 3, 256, 2000):
        statistics.batch(rows, 0.1)
    sizes = statistics.recent()["batch_sizes"]
    assert {size: n for size, n in sizes.items() if n} == {"1": 1, "4": 1, "256": 1, "more": 1}

"""Calls that arrive together are judged together: none may be lost, mixed up or answered after its stream was reset."""

import struct

import hyperframe.frame as frames
import pytest

from tests.support.groups import EchoServer, echo_server, wait_until
from tests.support.http2 import CANCEL, ECHO, Http2Client, message
from tests.support.image import REVOKED, Facts, image_of, view_of
from tests.support.publications import native
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

VERIFY = "/verifier.v1.VerifierService/Verify"
KEYS = 200
VALID, REVOKED_VERDICT = 1, 4


@pytest.fixture(scope="module")
def server():
    facts = {native(n): Facts(key_id=f"key_{n}", flags=REVOKED if n % 3 == 0 else 0) for n in range(KEYS)}
    view = view_of(image_of(facts))
    with echo_server() as group:
        assert group.publish(view)
        yield group


def ask(number: int) -> bytes:
    return message(VerifyRequest(key=native(number)).SerializeToString())


def answer_to(client: Http2Client, stream: int) -> VerifyResponse:
    body = client.response(stream).body
    assert struct.unpack(">BI", body[:5]) == (0, len(body) - 5)
    return VerifyResponse.FromString(body[5:])


@pytest.mark.parametrize("together", [1, 15, 16, 17, 100])
def test_each_stream_gets_the_answer_to_its_own_key(server: EchoServer, together: int):
    with Http2Client(server.address) as client:
        streams = [2 * n + 1 for n in range(together)]
        client.send(*(frame for n, stream in enumerate(streams)
                      for frame in (client.headers(stream, VERIFY), client.data(stream, ask(n)))))
        for n, stream in enumerate(streams):
            answer = answer_to(client, stream)
            assert (f"key_{n}", REVOKED_VERDICT if n % 3 == 0 else VALID) == (answer.key_id, answer.verdict)


def test_a_call_that_is_reset_in_the_same_write_is_forgotten_and_the_others_are_not(server: EchoServer):
    counted = sum(server.counters()["verdicts"])
    with Http2Client(server.address) as client:
        some = []
        for n in range(12):
            stream = 2 * n + 1
            some += [client.headers(stream, VERIFY), client.data(stream, ask(n))]
            if n % 4 == 1:
                some.append(frames.RstStreamFrame(stream, error_code=CANCEL))
        client.send(*some)
        for n in range(12):
            if n % 4 != 1:
                assert f"key_{n}" == answer_to(client, 2 * n + 1).key_id
        client.send(frames.PingFrame(0, opaque_data=b"all done"))
        while not isinstance(client.next_frame(), frames.PingFrame):
            pass
        assert not [frame for frame in client.received if frame.stream_id in (3, 11, 19)]
    wait_until(lambda: sum(server.counters()["verdicts"]) == counted + 9)


def test_methods_with_and_without_stages_and_faults_mix(server: EchoServer):
    with Http2Client(server.address) as client:
        client.send(
            client.headers(1, VERIFY), client.data(1, ask(1)),
            client.headers(3), client.data(3, message(b"echo")),
            client.headers(5, VERIFY), client.data(5, message(b"\xff")),
            client.headers(7, VERIFY, extra=[("grpc-timeout", "0n")]), client.data(7, ask(2)),
            client.headers(9, VERIFY), client.data(9, ask(4)),
            client.headers(11, "/no.such/Method"), client.data(11, ask(4)),
        )
        assert "key_1" == answer_to(client, 1).key_id
        assert message(b"echo") == client.response(3).body
        assert [3, 4, 12] == [client.response(stream).status for stream in (5, 7, 11)]
        assert "key_4" == answer_to(client, 9).key_id


def test_a_message_in_pieces_is_judged_with_those_that_came_whole(server: EchoServer):
    with Http2Client(server.address) as client:
        whole = ask(7)
        client.send(client.headers(1, VERIFY), client.data(1, whole[:9], end=False))
        client.send(client.headers(3, VERIFY), client.data(3, ask(8)),
                    client.data(1, whole[9:]),
                    client.headers(5, VERIFY), client.data(5, ask(10)))
        assert ["key_7", "key_8", "key_10"] == [answer_to(client, stream).key_id for stream in (1, 3, 5)]


def test_the_last_words_of_a_connection_that_errs_do_no_harm(server: EchoServer):
    with Http2Client(server.address) as client:
        client.raw(client.headers(1, VERIFY).serialize() + client.data(1, ask(1)).serialize()
                   + b"\0\0\1\0\0\0\0\0\0x")  # DATA on stream 0
        while client.next_frame() is not None:
            pass
    with Http2Client(server.address) as client:
        client.call(1, b"alive", ECHO)
        assert message(b"alive") == client.response(1).body

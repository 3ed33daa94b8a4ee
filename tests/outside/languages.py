"""Clients in Python, JavaScript and Go, each by the gRPC library of its language, against a node with TLS."""

import json
import os
import statistics
import subprocess
import time

OK, CANCELLED, DEADLINE_EXCEEDED, PERMISSION_DENIED, UNAVAILABLE, UNAUTHENTICATED = 0, 1, 4, 7, 14, 16
CODES = {
    "get_with_token": OK,
    # The token has the role reader.
    "put_with_token": PERMISSION_DENIED,
    "get_without_token": UNAUTHENTICATED,
    # The certificate has the role publisher.
    "put_with_certificate": OK,
    # A client that does not trust the CA.
    "get_from_untrusted": UNAVAILABLE,
}
# Limits on the time from a deadline to the error. The machine may be busy, so a single call may take longer.
MEDIAN_LATE_MS, MAX_LATE_MS = 20, 250
ATTEMPTS = 3
# Limit on the time from cancelling calls to their end in the node.
CANCEL_SECONDS = 0.5
RESTARTS, RESTART_SECONDS = 3, 2


class Client:
    """A running client: see clients/. Each line of its output is one result."""

    def __init__(self, command, node, proto, *arguments):
        environment = os.environ | {
            "CABLE_ADDRESS": node.address,
            "CABLE_CA": node.path("tls/ca.pem"),
            "CABLE_CLIENT_CERT": node.path("tls/desk.pem"),
            "CABLE_CLIENT_KEY": node.path("tls/desk.key"),
            "CABLE_TOKEN": node.token_of("website"),
            "CABLE_PROTO": str(proto),
            # grpcio logs each refused certificate otherwise.
            "GRPC_VERBOSITY": "NONE",
        }
        self.process = subprocess.Popen([*command, *arguments], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def result(self):
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait()}"
        return json.loads(line)

    def proceed(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        assert status == 0, f"the client ended with {status}"


def calls(name, start):
    """Checks the codes, and how late the errors of deadlines are. A busy machine has some attempts for the times."""
    for _ in range(ATTEMPTS):
        client = start()
        result = client.result()
        client.end()
        assert result["codes"] == CODES, f"{name}: {result['codes']}"
        assert set(result["late_ms"]) == {"unary", "stream", "feed"}
        if all(in_time(late) for late in result["late_ms"].values()):
            break
    else:
        raise AssertionError(f"{name}: ms after the deadline: {result['late_ms']}")
    worst = {kind: f"{statistics.median(late):.1f} / {max(late):.1f}" for kind, late in result["late_ms"].items()}
    print(f"{name}: token, certificate and refusals as expected; ms after the deadline, median / maximum: {worst}")


def in_time(late):
    # A client may be early by the millisecond to which it rounds the deadline.
    return min(late) > -2 and statistics.median(late) <= MEDIAN_LATE_MS and max(late) <= MAX_LATE_MS


def cancel(name, client, node):
    count = client.result()["open"]
    in_flight = "cable_rpc_in_flight"
    node.wait_for_metric(in_flight, lambda value: value == count, 10)
    client.proceed()
    codes = client.result()["codes"]
    seconds = node.wait_for_metric(in_flight, lambda value: value == 0, CANCEL_SECONDS)
    client.end()
    assert set(codes) == {CANCELLED}, f"{name}: {codes}"
    print(f"{name}: {count} cancelled calls ended in the node within {seconds * 1000:.0f} ms")


def drain(name, client, node):
    """Restarts the node under calls that wait for a connection. None may fail."""
    assert client.result()["ready"]
    stops = []
    for _ in range(RESTARTS):
        time.sleep(RESTART_SECONDS / 2)
        stops.append(node.stop())
        node.start()
    codes = client.result()["codes"]
    client.end()
    failed = {code: count for code, count in codes.items() if int(code) != OK}
    total = sum(codes.values())
    assert not failed and total >= 100, f"{name}: {failed} of {total} calls failed"
    print(f"{name}: {total} calls during {RESTARTS} restarts, 0 failed; each stop took at most {max(stops):.2f} s")


def run(name, command, node, proto):
    calls(name, lambda: Client(command, node, proto, "calls"))
    cancel(name, Client(command, node, proto, "cancel"), node)
    drain(name, Client(command, node, proto, "drain", str(RESTARTS * RESTART_SECONDS)), node)

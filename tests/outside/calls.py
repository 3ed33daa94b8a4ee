"""grpc-health-probe, grpcurl and ghz against a node with TLS and tokens."""

import json
import subprocess

GHZ_CALLS = 2000


def execute(*command, seconds=60):
    """Returns the exit status and the output of a command."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stdout + done.stderr


def expect(result, status, *texts):
    code, output = result
    assert code == status, f"exit status {code}, expected {status}:\n{output}"
    for text in texts:
        assert text in output, f"no {text!r} in:\n{output}"


def authorization(node, name):
    return f"authorization: Bearer {node.token_of(name)}"


def probe(program, node):
    """Health checks need no token. The exit statuses are those of the tool's documentation."""
    tls = ["-tls", "-tls-ca-cert", node.path("tls/ca.pem")]
    certificate = ["-tls-client-cert", node.path("tls/desk.pem"), "-tls-client-key", node.path("tls/desk.key")]

    def check(status, text, *arguments):
        expect(execute(program, "-addr", node.address, "-connect-timeout", "5s", *arguments), status, text)

    check(0, "status: SERVING", *tls)
    for service in ["Content", "Feed", "Publishing", "Status", "Transfer"]:
        check(0, "status: SERVING", *tls, "-service", f"cable.v1.{service}Service")
    check(0, "status: SERVING", *tls, *certificate)
    check(0, "status: SERVING", *tls, "-rpc-header", authorization(node, "website"))
    check(3, "unknown service", *tls, "-service", "cable.v1.NoService")
    # Without TLS, and with an authority that did not issue the certificate.
    check(2, "", "-connect-timeout", "1s")
    check(2, "", "-tls", "-connect-timeout", "1s")
    print("grpc-health-probe: 5 services, with and without token and certificate; 3 refusals")


def grpcurl(program, node):
    """grpcurl has no schema: it reads the schema by reflection, which needs a token."""
    website, cms = authorization(node, "website"), authorization(node, "cms")

    def call(token, *arguments, data=None):
        headers = ["-H", token] if token else []
        request = ["-d", json.dumps(data)] if data is not None else []
        return execute(program, "-cacert", node.path("tls/ca.pem"), *headers, *request, node.address, *arguments)

    services = ["Content", "Feed", "Publishing", "Status", "Transfer"]
    expect(call(website, "list"), 0, *(f"cable.v1.{service}Service" for service in services))
    method = "rpc GetArticle ( .cable.v1.GetArticleRequest ) returns ( .cable.v1.GetArticleResponse );"
    expect(call(website, "describe", "cable.v1.ContentService.GetArticle"), 0, method)
    put, get = "cable.v1.PublishingService/PutArticle", "cable.v1.ContentService/GetArticle"
    article = {"article": {"name": "articles/tides", "headline": "Tides on Sunday", "tags": ["tags/sea"]}}
    expect(call(cms, put, data=article), 0, '"changed": true')
    expect(call(website, get, data={"name": "articles/tides"}), 0, '"headline": "Tides on Sunday"')
    failed = 64  # and the code: PERMISSION_DENIED is 7, UNAUTHENTICATED 16
    expect(call(website, put, data=article), failed + 7, "Code: PermissionDenied", '"reason": "ROLE_REQUIRED"')
    expect(call(None, "list"), 1, "Unauthenticated")
    expect(call("authorization: Bearer cable_not_a_token", "list"), 1, "Unauthenticated")
    print("grpcurl: list, describe, two calls and a refusal by its role; two refusals without a valid token")


def ghz(program, node):
    code, output = execute(
        program, "--cacert", node.path("tls/ca.pem"), "--call", "cable.v1.ContentService/GetArticle",
        "--reflect-metadata", json.dumps({"authorization": f"Bearer {node.token_of('website')}"}),
        "--metadata", json.dumps({"authorization": f"Bearer {node.token_of('website')}"}),
        "--data", json.dumps({"name": "articles/tides"}), "--total", str(GHZ_CALLS), "--connections", "4",
        "--concurrency", "16", "--cpus", "1", "--timeout", "20s", "--format", "json", node.address, seconds=120)
    assert code == 0, output
    run = json.loads(output)
    assert run["statusCodeDistribution"] == {"OK": GHZ_CALLS}, f"{run['statusCodeDistribution']}"
    print(f"ghz: {GHZ_CALLS} calls over 4 TLS connections, 0 failures")

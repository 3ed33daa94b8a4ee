# Recipes: `just --list` shows them.

# All checks, or some of them: `just ci format lint test`.
ci *steps:
    .ci/run {{steps}}

# The newsroom of sample articles, served at 127.0.0.1:7190.
demo:
    cargo run --release -- serve --demo

# All tests.
test:
    cargo test --workspace

# The client's examples, grpcurl, ghz, Python and a checked import against a server of their own.
clients:
    cargo build --bin cable
    tests/clients/run

# Third-party tools and clients over TLS, each with a server of its own.
outside:
    cargo build --bin cable
    tests/outside/run

# The generated files of cable-proto and cable-client and proto/fields.txt, after a change of proto/.
gen:
    cargo run -p xtask -- gen

# Formats the Rust code as the checks require.
fmt:
    cargo fmt --all

# A measurement: serving, tls, size, client, instructions, feeds, scale, costs or memory.
bench name="serving":
    cargo run --release --bin cable-bench -- {{name}}

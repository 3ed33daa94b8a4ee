#!/bin/sh
# Runs the driver of the conformance suite. Build it first: mvn -q verify.
here=$(dirname "$0")
exec java -cp "$here/target/classes:$(cat "$here/target/classpath")" com.cable.follower.Driver

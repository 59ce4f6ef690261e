#!/bin/sh
# Installs, into target/openapi-tools, the programs from PyPI that a test holds `/openapi.json` to. Where there is no Python 3 or
# no way to PyPI, says so and goes on: the test passes them over then.
set -eu

tools=target/openapi-tools
wanted="openapi-spec-validator==0.9.0 schemathesis==4.32.5"
[ "$(cat "$tools/installed" 2>/dev/null || true)" = "$wanted" ] && exit 0
skip() {
  echo "the test of /openapi.json with openapi-spec-validator and schemathesis is passed over: $1" >&2
  exit 0
}
command -v python3 >/dev/null 2>&1 || skip "there is no python3"
rm -rf "$tools"
python3 -m venv "$tools" >/dev/null 2>&1 || skip "python3 has no venv"
# shellcheck disable=SC2086 # one word a package
"$tools/bin/pip" install --quiet --disable-pip-version-check $wanted >/dev/null 2>&1 || skip "PyPI cannot be reached"
echo "$wanted" >"$tools/installed"

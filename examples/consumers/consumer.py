#!/usr/bin/env python3
"""Reads a customer from the sidecar: consumer.py [ID]. Standard library only."""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ.get("BFB_URL", "http://localhost:7070")

# The sidecar is beside us: a proxy from the environment must not come between.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# The last answer by path, to be asked about again: (etag, data).
kept = {}


class Problem(Exception):
    """What the sidecar said instead of data (RFC 9457). Decide by `type`; the rest is for people."""

    def __init__(self, status, body):
        try:
            self.problem = json.loads(body)
        except ValueError:
            self.problem = {}
        self.type = self.problem.get("type", "about:blank")
        self.failed = self.problem.get("failed", [])
        super().__init__(self.problem.get("title", f"status {status}"))


def get(path, retry=True):
    """The data at `path`, whole and current; raises Problem, or URLError if no sidecar answers."""
    etag, data = kept.get(path, (None, None))
    request = urllib.request.Request(URL + path, headers={"If-None-Match": etag} if etag else {})
    try:
        with opener.open(request, timeout=10) as answer:
            data = json.load(answer)
            kept[path] = (answer.headers["ETag"], data)
            return data
    except urllib.error.HTTPError as error:  # urllib's name for everything but 2xx
        with error:
            if error.code == 304:
                return data
            retry_after = error.headers.get("Retry-After", "")
            problem = Problem(error.code, error.read())
    if retry and retry_after.isdecimal():
        time.sleep(int(retry_after))  # once: our caller has a deadline too
        return get(path, retry=False)
    raise problem


def main():
    customer = sys.argv[1] if len(sys.argv) > 1 else "42"
    path = f"/v2/customers/{urllib.parse.quote(customer, safe='')}"
    try:
        get(path)
        data = get(path)  # the second time it costs a 304, unless something has changed
    except Problem as problem:
        if problem.type == "urn:bfb:not-found":
            sys.exit(f"no customer {customer}")
        lines = [f"  {one['source']}: {one['reason']}: {one['detail']}" for one in problem.failed]
        sys.exit("\n".join([f"{problem.type}: {problem}", *lines]))
    except OSError as error:
        sys.exit(f"no sidecar at {URL}: {error}")
    counts = ", ".join(f"{len(data[part])} {part}" for part in ("favorites", "reviews", "orders"))
    print(f"{data['profile']['name']}: {counts}")


if __name__ == "__main__":
    main()

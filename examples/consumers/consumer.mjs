#!/usr/bin/env node
// Reads a customer from the sidecar: consumer.mjs [ID]. Node 18 or later, no dependencies.

const base = process.env.BFB_URL ?? "http://localhost:7070";

// The last answer by path, to be asked about again: {etag, data}.
const kept = new Map();

/** What the sidecar said instead of data (RFC 9457). Decide by `type`; the rest is for people. */
class Problem extends Error {
  constructor(status, { type = "about:blank", title = `status ${status}`, failed = [] }) {
    super(title);
    this.type = type;
    this.failed = failed;
  }
}

/** The data at `path`, whole and current; throws a Problem, or fetch's TypeError if no sidecar answers. */
async function get(path, retry = true) {
  const known = kept.get(path);
  const headers = known ? { "if-none-match": known.etag } : {};
  const answer = await fetch(base + path, { headers, signal: AbortSignal.timeout(10_000) });
  if (answer.status === 304) return known.data;
  if (answer.ok) {
    const data = await answer.json();
    kept.set(path, { etag: answer.headers.get("etag"), data });
    return data;
  }
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  const seconds = answer.headers.get("retry-after") ?? "";
  if (!retry || !/^[0-9]+$/.test(seconds)) throw problem;
  await new Promise((done) => setTimeout(done, Number(seconds) * 1000)); // once: our caller has a deadline too
  return get(path, false);
}

const customer = process.argv[2] ?? "42";
const path = `/v2/customers/${encodeURIComponent(customer)}`;
try {
  await get(path);
  const data = await get(path); // the second time it costs a 304, unless something has changed
  const counts = ["favorites", "reviews", "orders"].map((part) => `${data[part].length} ${part}`);
  console.log(`${data.profile.name}: ${counts.join(", ")}`);
} catch (error) {
  process.exitCode = 1;
  if (!(error instanceof Problem)) {
    console.error(`no answer from ${base}: ${error.cause?.message ?? error.message}`);
  } else if (error.type === "urn:bfb:not-found") {
    console.error(`no customer ${customer}`);
  } else {
    console.error(`${error.type}: ${error.message}`);
    for (const { source, reason, detail } of error.failed) console.error(`  ${source}: ${reason}: ${detail}`);
  }
}

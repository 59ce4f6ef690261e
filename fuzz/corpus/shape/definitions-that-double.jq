def a: .,.; def b: a|a; def c: b|b; def d: c|c; def e: d|d; [e|e|e] | length

null
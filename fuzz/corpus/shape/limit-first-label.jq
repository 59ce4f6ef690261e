[[limit(3; range(1e18))], first(range(1e18)), (label $f | range(1e18) | if . > 5 then ., break $f else empty end)] | length

null
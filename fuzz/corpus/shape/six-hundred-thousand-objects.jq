[range(600000)] | map({a: .}) | length

null
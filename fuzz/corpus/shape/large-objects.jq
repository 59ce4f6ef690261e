[range(3000) | {key: tostring, value: .}] | from_entries | .a = 1 | del(.["5"], .["7"]) | keys | length

null
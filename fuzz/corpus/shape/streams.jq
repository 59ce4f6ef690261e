[fromstream(tostream), [1 | truncate_stream([[0], 1], [[1, 0], 2])], INDEX(.[]; .k), ([.[].k] | bsearch(2)), IN(.[]; 1)]

[{"k":1,"v":[{}]},{"k":2},{"k":2,"v":"x"}]

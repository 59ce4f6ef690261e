[indices(1), indices([1,2]), contains([2]), ([2] | inside([1,2])), index(1), rindex(1)]

[1,2,1,2,3]
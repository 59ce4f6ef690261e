[.[] | test("^[a-z]+[0-9]*$"), [match("(?<l>[a-z])(?<d>[0-9])?"; "g").captures[].string], gsub("(?<x>[aeiou])"; "<\(.x)>"), [splits(" +")], [scan("\\w+")]]

["ab1 c2","é ü","","a1"]
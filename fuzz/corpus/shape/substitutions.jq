[gsub("[^a-z]*(?<x>[a-z]*)"; "Z\(.x)", "y"), sub("(?<x>.)"; .x, null; "gi"), [match(["\\b", "gn"])], [match("a|ab|b+"; "gl").string]]

"123foo456bar ab"

[paths] as $p | reduce $p[] as $x (.; setpath($x; getpath($x))) | delpaths($p[1:]) | del(.a?) | to_entries

{"a":{"b":[1,2,{"c":null}]},"d":[]}
[. as [$a, {b: $c, $d}] | reduce .[] as $x ([]; . + [$x, $a, $c, $d]) | foreach .[] as $x (0; . + 1; [., $x])] | length

[1,{"b":2,"d":3}]
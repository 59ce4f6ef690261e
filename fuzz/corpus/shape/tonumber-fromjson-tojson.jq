reduce range(1e6) as $i (0; ("[" + "1," * 1e5 + "1]") | [tonumber?, (fromjson | tojson)] | 0)

null
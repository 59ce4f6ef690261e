walk(if type == "object" then with_entries(.value |= tostring) else . end)

{"a":[{"b":1},{"c":[true]}]}
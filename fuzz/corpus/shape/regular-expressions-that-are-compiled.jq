[range(1000) as $i | try test("\\pL" * 60 + ($i | tostring); "i") catch 1] | length

"x"
[.[] | try tonumber catch "no", try fromjson catch "no", try ldexp(tonumber; 3) catch "no"] | map(tostring)

[".89","+1","5.","01","nan","-Infinity","1e999","--1","[+1,.5]","1_0"]

[.[] | utf8bytelength, (explode | implode), length]

["é","x","",  "\ud83d\ude00"]
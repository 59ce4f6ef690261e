[[.[] | @text, @json, @html, @uri, @sh, @base64, (@base64 | @base64d), (@uri | @urid)], (.[0:2] | @csv, @tsv)]

["a<b>&'\"","é%","x y",1.50,null]
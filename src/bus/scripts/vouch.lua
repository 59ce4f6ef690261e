-- ARGV[3] and [4] a dataset's epoch and seq, [5] its key, [6…] its tags. Answers `done` and whether it is believed.
local refusal = open(false)
if refusal then
  return refusal
end
local tags = tags_from(6)
return done(tags and ARGV[3] == log.epoch and believes(number(ARGV[4]), ARGV[5], tags))

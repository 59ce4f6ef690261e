//! Replays the corpus of the fuzz target, as it is and damaged: values in Redis and answers of
//! servers.

#[path = "../../fuzz/properties/redis_answers.rs"]
mod redis_answers;

/// The files of the corpus that are not of the kind that their readers expect.
const ODD: [&str; 7] = ["bomb", "no-resp", "rle", "sealed", "too-deep", "too-long", "too-many"];

#[test]
fn whatever_stands_in_redis_nothing_is_read_beyond_its_bound() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/redis_answers");
    let mut read = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(redis_answers::holds(&data), !ODD.contains(&name), "{name}");
        for at in 0..data.len().min(200) {
            redis_answers::holds(&data[..at]);
            for flipped in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = data.clone();
                damaged[at] ^= flipped;
                redis_answers::holds(&damaged);
            }
        }
        read += 1;
    }
    assert!(read >= 25, "the corpus is there");
}

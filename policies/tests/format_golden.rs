//! What real clusters wrote is read completely and could have been written by us.

mod repositories;

use policies::format::frame::{self, Limits, Packing};
use policies::format::smile;

#[test]
fn every_frame_of_every_fixture_opens_and_its_body_is_written_byte_for_byte() {
    let mut frames = 0;
    let mut plain = 0;
    for fixture in repositories::all() {
        for (key, bytes) in &fixture.objects {
            let name = key.rsplit('/').next().unwrap();
            let framed = name.ends_with(".dat") || key.contains("indices/") && name.starts_with("index-");
            if !framed {
                continue;
            }
            let frame = frame::open(bytes).unwrap_or_else(|error| panic!("{} {key}: {error}", fixture.name));
            let document = frame.document(Limits::default()).unwrap();
            let value = smile::decode(&document).unwrap_or_else(|error| panic!("{} {key}: {error}", fixture.name));
            assert_eq!(smile::encode(&value, smile::Flags::CLUSTER), *document, "{} {key}", fixture.name);
            frames += 1;
            if frame.packing == Packing::Plain {
                plain += 1;
                assert_eq!(frame::seal(frame.codec, &document, false), *bytes, "{} {key}", fixture.name);
            }
        }
    }
    assert!(frames > 400 && plain > 200, "{frames} frames, {plain} plain");
}

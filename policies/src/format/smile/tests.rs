use proptest::prelude::*;

use super::*;

fn object(fields: &[(&str, Value)]) -> Value {
    Value::Object(
        fields
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect(),
    )
}

#[test]
fn a_document_that_a_cluster_wrote_is_read_and_written_again() {
    // {"name":"one-b","index_version":4,"time":0,"total_size":7038}
    let document = b":)\n\x05\xfa\x83nameDone-b\x8cindex_version\xc8\x83time\xc0\x89total_size\x24\x01\x5b\xbc\xfb";
    let value = decode(document).unwrap();
    assert_eq!(value.get("index_version"), Some(&Value::Int(4)));
    assert_eq!(value.get("total_size"), Some(&Value::Int(7038)));
    assert_eq!(encode(&value, Flags::CLUSTER), document);
}

#[test]
fn all_flags_are_honoured() {
    let items: Vec<Value> = (0..1500)
        .map(|n| {
            object(&[
                (
                    &format!("name{}", n % 1100),
                    Value::text(format!("v{}", n % 40)),
                ),
                ("bytes", Value::Binary((0..n as u8).collect())),
            ])
        })
        .collect();
    let value = Value::Array(items);
    for flags in 0..8_u8 {
        let flags = Flags {
            shared_names: flags & 1 != 0,
            shared_values: flags & 2 != 0,
            raw_binary: flags & 4 != 0,
        };
        assert_eq!(decode(&encode(&value, flags)).unwrap(), value, "{flags:?}");
    }
}

#[test]
fn an_end_marker_may_follow_and_nothing_else() {
    assert_eq!(decode(b":)\n\x00\x21\xff"), Ok(Value::Null));
    assert_eq!(
        decode(b":)\n\x00\x21\x21").unwrap_err().fault,
        Fault::Trailing
    );
}

#[test]
fn a_claimed_length_allocates_nothing() {
    for token in [0xFD_u8, 0xE8, 0x26] {
        let mut document = b":)\n\x05".to_vec();
        document.extend_from_slice(&[token, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0xbf]);
        assert_eq!(decode(&document).unwrap_err().fault, Fault::Truncated);
    }
}

#[test]
fn depth_is_bounded() {
    let mut document = b":)\n\x05".to_vec();
    document.extend(std::iter::repeat_n(0xF8, 100_000));
    assert_eq!(decode(&document).unwrap_err().fault, Fault::TooDeep);
}

#[test]
fn a_reference_to_nothing_is_refused() {
    assert_eq!(
        decode(b":)\n\x01\xfa\x40\x21\xfb").unwrap_err().fault,
        Fault::Reference(0)
    );
    assert_eq!(
        decode(b":)\n\x01\x01").unwrap_err().fault,
        Fault::Reference(0)
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-40_i64..40).prop_map(Value::Int),
        any::<i32>().prop_map(|int| Value::Int(int.into())),
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Value::BigInteger),
        (-1e9_f32..1e9).prop_map(Value::Float),
        (-1e99_f64..1e99).prop_map(Value::Double),
        (any::<i32>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled }),
        "\\PC{0,70}".prop_map(Value::text),
        "[a-z]{0,90}".prop_map(Value::text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec(("\\PC{0,70}".prop_map(Into::into), inner), 0..8)
                .prop_map(Value::Object),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values(), flags in 0..8_u8) {
        let flags = Flags { shared_names: flags & 1 != 0, shared_values: flags & 2 != 0, raw_binary: flags & 4 != 0 };
        prop_assert_eq!(decode(&encode(&value, flags)), Ok(value));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), flags in 0..16_u8) {
        let mut document = MAGIC.to_vec();
        document.push(flags);
        document.extend(bytes);
        let _ = decode(&document);
    }
}

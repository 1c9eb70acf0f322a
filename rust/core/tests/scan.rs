//! The scanner against `serde_json`, on texts that are JSON, nearly JSON or not JSON.
use agentrunner_core::event::Event;
use agentrunner_core::kind::Kind;
use agentrunner_core::scan::{self, MAX_DEPTH};
use proptest::prelude::*;
use serde_json::Value;

fn serde_accepts(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![".*", "[\"\\\\/\u{8}\t\n\u{1f}é🙂a-c]{0,20}", "[a-z]{0,40}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(|value| 1 + count(value)).sum(),
        _ => 0,
    }
}

// fault A1
#[test]
fn values_are_counted_up_to_where_a_parser_stops() {
    for (json, values) in
        [("", 1), ("[0,0]", 3), (r#"{"a":[],"b":"[{,:"}"#, 6), (r#"[0,"unfinished,,,,"#, 3), ("}}]]", 1)]
    {
        assert_eq!(scan::count_values(json.as_bytes(), 10), values, "{json}");
    }
    assert_eq!(scan::count_values("[".repeat(1000).as_bytes(), 10), 12);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_serde_writes_is_accepted_whole(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(scan::validate(text.as_bytes()).unwrap(), text.as_str());
        prop_assert_eq!(scan::minify(&text), serde_json::to_string(&value).unwrap());
        prop_assert!(scan::count_values(text.as_bytes(), 128) >= count(&value));
    }

    #[test]
    fn a_damaged_text_is_judged_as_serde_judges_it(
        value in json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        for (place, byte, edit) in edits {
            let at = place.index(bytes.len() + 1);
            // Most bytes only occur inside strings, so half of the edits use those with a meaning outside them.
            let byte = if byte < 128 { b"{}[]\",:\\u0e.-tn \n"[usize::from(byte) % 17] } else { byte };
            match edit {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        prop_assert_eq!(scan::validate(&bytes).is_ok(), serde_accepts(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(scan::validate(&bytes).is_ok(), serde_accepts(&bytes));
        let _ = Event::parse(&bytes);
    }

    #[test]
    fn strings_of_every_length_and_alignment_end_where_they_end(before in 0..9_usize, text in "[a-z\"\\\\é]{0,40}") {
        let json = format!("{}{}", " ".repeat(before), serde_json::to_string(&text).unwrap());
        prop_assert_eq!(scan::skip_string(json.as_bytes(), before + 1).unwrap(), json.len());
    }
}

#[test]
fn the_objects_of_an_array_are_its_elements_with_their_members() {
    let json = r#"[ {"a":1,"b":[2,{"c":3}]} , {} ,[4,5], "x,]" , null,{"a\u0062":"y"} ]"#;
    let all: Vec<_> = scan::objects(json).collect();
    assert_eq!(all.iter().map(|(element, _)| *element).collect::<Vec<_>>(), scan::elements(json));
    for (element, members) in &all {
        assert_eq!(members.to_vec(), scan::members(element));
    }
    assert_eq!(scan::objects("[]").count() + scan::objects("").count() + scan::objects("{}").count(), 0);
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(scan::validate(nested(MAX_DEPTH as usize).as_bytes()).is_ok());
    assert!(scan::validate(nested(MAX_DEPTH as usize + 1).as_bytes()).is_err());
    assert!(scan::validate(nested(1_000_000).as_bytes()).is_err());
}

#[test]
fn a_key_may_have_escapes() {
    let event = Event::parse(br#"{"\u0074ype":"CUSTOM","n\u0061me":"x","value":null}"#).unwrap();
    assert_eq!(event.kind(), Kind::Custom);
    assert_eq!(event.string("name").unwrap(), "x");
    assert!(event.is_null("value"));
}

#[test]
fn the_last_value_of_a_repeated_key_counts() {
    let event = Event::parse(br#"{"type":"RAW","type":"CUSTOM","name":"a","name":"b"}"#).unwrap();
    assert_eq!((event.kind(), event.string("name").as_deref()), (Kind::Custom, Some("b")));
}

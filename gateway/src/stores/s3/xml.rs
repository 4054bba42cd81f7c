//! Answers of S3 services, read strictly.
//!
//! Invariant: what is cut off, badly nested, too deep or followed by other text is [`Malformed`], never
//! a shorter answer. No document types, no entities but XML's own five. A small tree instead of
//! derived structures, because derived ones ignore the root's name and default what is missing, and
//! an `<Error>` would be read as an empty list.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The service's answer is not what S3 says it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// Nesting of the deepest answer (`Owner/ID` in a listing) is 4.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    fn open(start: &BytesStart<'_>) -> Self {
        Self {
            name: start.local_name().as_ref().to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of a child that may be missing; twice is malformed.
    pub(super) fn maybe(&self, name: &str) -> Result<Option<&str>, Malformed> {
        let mut found = self.children.iter().filter(|child| child.name == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(Malformed);
        }
        Ok(first.map(|child| child.text.as_str()))
    }

    pub(super) fn text_of(&self, name: &str) -> Result<&str, Malformed> {
        self.maybe(name)?.ok_or(Malformed)
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Malformed> {
        match self.text_of(name)?.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Malformed),
        }
    }
}

/// One whole document.
pub(super) fn parse(bytes: &[u8]) -> Result<Element, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    let mut reader = Reader::from_str(text.trim_start());
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        match reader.read_event().map_err(|_| Malformed)? {
            Event::Start(start) => {
                if root.is_some() || open.len() == MAX_DEPTH {
                    return Err(Malformed);
                }
                open.push(Element::open(&start));
            }
            Event::Empty(start) => {
                if root.is_some() {
                    return Err(Malformed);
                }
                close(Element::open(&start), &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or(Malformed)?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => add_text(&text, &mut open)?,
            Event::CData(text) => add_text(&text, &mut open)?,
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref().map_err(|_| Malformed)? {
                    Some(character) => character,
                    None => named(&reference)?,
                };
                let element = open.last_mut().ok_or(Malformed)?;
                element.text.push(character);
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(Malformed),
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(Malformed);
    }
    root.ok_or(Malformed)
}

/// One whole document with this root.
pub(super) fn parse_as(root: &str, bytes: &[u8]) -> Result<Element, Malformed> {
    let element = parse(bytes)?;
    if element.name == root {
        Ok(element)
    } else {
        Err(Malformed)
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn add_text(text: &str, open: &mut [Element]) -> Result<(), Malformed> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Malformed),
    }
    Ok(())
}

fn named(reference: &str) -> Result<char, Malformed> {
    match reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(Malformed),
    }
}

/// The `<Code>` of an error answer, if there is one that looks like a code.
pub(super) fn error_code(bytes: &[u8]) -> Option<String> {
    let error = parse_as("Error", bytes).ok()?;
    let code = error.text_of("Code").ok()?.trim();
    let plain = code.len() <= 64 && code.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.');
    (plain && !code.is_empty()).then(|| code.to_owned())
}

/// Appends text with XML's special characters escaped.
pub(super) fn push_escaped(into: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\r' => into.push_str("&#13;"),
            '\n' => into.push_str("&#10;"),
            '\t' => into.push_str("&#9;"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><A>1 &amp; &#50;</A><B/><C><![CDATA[<]]></C></R>\n";

    #[test]
    fn a_whole_answer_is_read() {
        let root = parse_as("R", LIST.as_bytes()).unwrap();
        assert_eq!(root.text_of("A"), Ok("1 & 2"));
        assert_eq!(root.text_of("B"), Ok(""));
        assert_eq!(root.text_of("C"), Ok("<"));
        assert_eq!(root.maybe("D"), Ok(None));
    }

    #[test]
    fn an_answer_cut_anywhere_is_malformed() {
        let end = LIST.trim_end().len();
        for cut in 0..end {
            assert!(parse(&LIST.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn hostile_answers_are_malformed() {
        let deep = "<a>".repeat(9) + &"</a>".repeat(9);
        for text in [
            "<a></b>",
            "<a/><a/>",
            "<a/>x",
            "x<a/>",
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            "<a>&e;</a>",
            "<html>",
            "",
            &deep,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"<a>\xff</a>").is_err());
        assert_eq!(
            parse_as("R", b"<Error><Code>x</Code></Error>").err(),
            Some(Malformed)
        );
    }

    #[test]
    fn only_a_code_is_taken_from_an_error() {
        let error =
            |code: &str| error_code(format!("<Error><Code>{code}</Code></Error>").as_bytes());
        assert_eq!(error("SlowDown").as_deref(), Some("SlowDown"));
        assert_eq!(error("10.0.0.1 said &lt;no&gt;"), None);
        assert_eq!(error(""), None);
        assert_eq!(error_code(b"<html>502</html>"), None);
    }

    #[test]
    fn escaped_text_is_read_back() {
        let name = "a<b>&\"c\"\r\n\t'";
        let mut text = "<N>".to_owned();
        push_escaped(&mut text, name);
        text.push_str("</N>");
        assert_eq!(parse(text.as_bytes()).unwrap().text, name);
    }
}

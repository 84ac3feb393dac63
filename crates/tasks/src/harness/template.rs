//! Jinja2 templates as lm-evaluation-harness renders them: an undefined name is an error, values print as Python prints them.

use std::sync::LazyLock;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};
use serde_json::Map;

use super::{python, regex};

/// The result of a template: its text, or what is wrong, in one line.
pub type Rendered = Result<String, String>;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("string", |value: Value| spelled(&value));
    environment.add_filter("join", join);
    environment
}

/// Renders a template with a document's columns as its variables.
pub fn render(template: &str, document: &Map<String, serde_json::Value>) -> Rendered {
    ENVIRONMENT
        .render_str(template, document)
        .map_err(|error| one_line(&error))
}

/// Whether a text is a well-formed template; the error otherwise.
pub fn check(template: &str) -> Result<(), String> {
    ENVIRONMENT
        .template_from_str(template)
        .map(drop)
        .map_err(|error| one_line(&error))
}

fn one_line(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn print(output: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    output.write_str(&spelled(value)).map_err(Error::from)
}

/// `str(value)` of Python.
fn spelled(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => match serde_json::to_value(value) {
            Ok(json) => python::text(&json),
            Err(_) => value.to_string(),
        },
    }
}

/// `join` with the items printed as Python prints them.
#[expect(clippy::needless_pass_by_value, reason = "filters take values")]
fn join(items: Value, separator: Option<String>, options: Kwargs) -> Result<String, Error> {
    let attribute: Option<String> = options.get("attribute")?;
    options.assert_all_used()?;
    let mut texts = Vec::new();
    for item in items.try_iter()? {
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        texts.push(spelled(&item));
    }
    Ok(texts.join(separator.as_deref().unwrap_or_default()))
}

/// `re.sub(pattern, repl, string, count)`.
fn regex_replace(
    text: &str,
    pattern: &str,
    replacement: &str,
    count: Option<usize>,
) -> Result<String, Error> {
    let invalid = |cause: String| Error::new(ErrorKind::InvalidOperation, cause);
    let regex = regex::compile(pattern).map_err(invalid)?;
    regex::replace(&regex, text, replacement, count.unwrap_or(0)).map_err(invalid)
}

/// Methods of Python's own types: `index` of a list and a few of a string, beside those minijinja's contribution knows.
fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.kind(), name, arguments) {
        (ValueKind::Seq, "index", [wanted]) => {
            let place = value.try_iter()?.position(|item| item == *wanted);
            place.map(Value::from).ok_or_else(|| {
                let message = format!("{} is not in list", spelled(wanted));
                Error::new(ErrorKind::InvalidOperation, message)
            })
        }
        (ValueKind::String, "index", [wanted]) => {
            let (text, wanted) = (spelled(value), spelled(wanted));
            let place = text.find(&wanted).map(|byte| text[..byte].chars().count());
            let missing = || Error::new(ErrorKind::InvalidOperation, "substring not found");
            place.map(Value::from).ok_or_else(missing)
        }
        (ValueKind::String, "zfill", [width]) => {
            let (text, width) = (spelled(value), usize::try_from(width.clone())?);
            let (sign, digits) = text
                .strip_prefix('-')
                .map_or(("", text.as_str()), |digits| ("-", digits));
            let width = width.saturating_sub(sign.len());
            Ok(Value::from(format!("{sign}{digits:0>width$}")))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(template: &str, expected: &str) {
        let document = json!({
            "question": " 2+2? ", "gold": 1, "choices": {"text": ["3", "it's", "\"4\""], "label": ["A", "B", "C"]},
            "answers": [{"aid": 1, "atext": "x"}, {"aid": 2, "atext": "y"}], "share": 1e-5, "yes": true, "none": null,
            "ra": 4,
        });
        let document = document.as_object().unwrap();
        assert_eq!(
            render(template, document).as_deref(),
            Ok(expected),
            "{template}"
        );
    }

    #[test]
    fn values_print_as_in_python() {
        check("{{choices.text}}", r#"['3', "it's", '"4"']"#);
        check(
            "{{share}} {{yes}} {{none}} {{gold + 1}}",
            "1e-05 True None 2",
        );
        check("{{answers|map(attribute='atext')|list}}", "['x', 'y']");
        check("{{[gold, yes]}}{{ {'a': none} }}", "[1, True]{'a': None}");
        check(
            "{{choices.text|join(' | ')}} {{[yes, 1]|join}}",
            "3 | it's | \"4\" True1",
        );
    }

    #[test]
    fn methods_of_python_are_there() {
        check("{{question.strip()}}|{{question.lstrip()}}", "2+2?|2+2? ");
        check(
            "{{choices.label.index('B')}} {{'abc'.index('c')}} {{'-7'.zfill(4)}}",
            "1 2 -007",
        );
        check(
            "{{'a b c'.split(' ')[-1]}} {{ra - 1}} {{['A','B','C'][gold]}}",
            "c 3 B",
        );
        check("{{'x1y22'|regex_replace('[0-9]+', '#')}}", "x#y#");
        check(
            "{{'x1y22'|regex_replace('([a-z])([0-9]+)', '\\\\2\\\\1')}}",
            "1x22y",
        );
    }

    #[test]
    fn line_ends_stay_and_nothing_is_escaped() {
        check("<{{gold}}>\n", "<1>\n");
        check("{% set p = 'a\n' %}\n{{p + question}}", "\na\n 2+2? ");
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let document = Map::new();
        for template in [
            "{{missing}}",
            "{{missing.x}}",
            "{% if missing %}a{% endif %}",
            "{{'a'.nothing()}}",
            "{{",
        ] {
            let error = render(template, &document).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(super::check("{% if %}").is_err() && super::check("{{a}}").is_ok());
    }
}

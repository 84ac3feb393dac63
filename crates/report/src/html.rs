//! The page: numbered sections, figures and tables, and the short version at the top.

use crate::svg::{Style, canvas};
use crate::text::escape;
use std::fmt::Write as _;

/// A page being written. Text given to it is plain and is escaped here, drawings excepted.
#[derive(Default)]
pub(crate) struct Page {
    body: String,
    sections: Vec<Section>,
    n_figures: usize,
    n_tables: usize,
}

/// One section as the contents name it.
struct Section {
    id: &'static str,
    title: String,
    headline: String,
}

impl Page {
    /// Opens a section. `id` is its address in the page.
    pub(crate) fn section(&mut self, id: &'static str, title: &str) {
        let number = self.sections.len() + 1;
        self.sections.push(Section {
            id,
            title: title.to_owned(),
            headline: String::new(),
        });
        let title = escape(title);
        writeln!(
            self,
            r#"<h2 id="{id}"><span class="n">{number}</span>{title}</h2>"#
        );
    }

    /// The sentence of this section that stands at the top of the page.
    pub(crate) fn headline(&mut self, sentence: &str) {
        if let Some(section) = self.sections.last_mut() {
            sentence.clone_into(&mut section.headline);
        }
    }

    /// A heading within a section.
    pub(crate) fn heading(&mut self, text: &str) {
        writeln!(self, "<h3>{}</h3>", escape(text));
    }

    /// A paragraph; nothing for an empty one.
    pub(crate) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            writeln!(self, "<p>{}</p>", escape(text));
        }
    }

    /// What the numbers say, a sentence a paragraph.
    pub(crate) fn reading(&mut self, sentences: &[String]) {
        self.block("reading", sentences);
    }

    /// What a reader must know before believing the section.
    pub(crate) fn warning(&mut self, sentences: &[String]) {
        self.block("warning", sentences);
    }

    /// The statement that the mechanism was planted.
    pub(crate) fn planted(&mut self, sentences: &[String]) {
        self.block("planted", sentences);
    }

    /// The options behind a section: `(what, settings)`.
    pub(crate) fn options(&mut self, options: &[(String, String)]) {
        for (what, settings) in options {
            writeln!(
                self,
                r#"<p class="options"><b>{}</b> {}</p>"#,
                escape(what),
                escape(settings)
            );
        }
    }

    /// A numbered figure of one or more drawings, with its legend.
    pub(crate) fn figure(&mut self, panels: &[String], legend: &[(String, Style)], caption: &str) {
        self.n_figures += 1;
        let number = self.n_figures;
        writeln!(self, "<figure>{}", keys(legend));
        writeln!(self, r#"<div class="panels">{}</div>"#, panels.join("\n"));
        writeln!(
            self,
            "<figcaption><b>Figure {number}.</b> {}</figcaption></figure>",
            escape(caption)
        );
    }

    /// A numbered table.
    pub(crate) fn table(&mut self, table: &Table, caption: &str) {
        self.n_tables += 1;
        let number = self.n_tables;
        writeln!(
            self,
            r#"<p class="caption"><b>Table {number}.</b> {}</p>"#,
            escape(caption)
        );
        writeln!(self, r#"<div class="scroll">{}</div>"#, table.html());
    }

    /// A long table that opens on demand.
    pub(crate) fn folded(&mut self, table: &Table, caption: &str) {
        self.n_tables += 1;
        let number = self.n_tables;
        let caption = escape(caption);
        writeln!(
            self,
            r#"<details><summary class="caption"><b>Table {number}.</b> {caption}</summary><div class="scroll">{}</div></details>"#,
            table.html()
        );
    }

    /// Definitions: a term, its formula, and what to know about it.
    pub(crate) fn definitions(&mut self, definitions: &[[&str; 3]]) {
        writeln!(self, r#"<dl class="defs">"#);
        for [term, formula, note] in definitions {
            let (term, formula, note) = (escape(term), typeset(formula), escape(note));
            writeln!(
                self,
                r#"<div><dt>{term}</dt><dd><span class="formula">{formula}</span>{note}</dd></div>"#
            );
        }
        writeln!(self, "</dl>");
    }

    /// The whole document.
    pub(crate) fn finish(self, title: &str, lead: &str, provenance: &str) -> String {
        let (title, lead, provenance) = (escape(title), escape(lead), escape(provenance));
        let contents: String = self.sections.iter().map(Section::entry).collect();
        let style = include_str!("style.css");
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="provenance" content="{provenance}" />
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="lead">{lead}</p>
<ul class="short">
{contents}</ul>
</header>
<main>
{}</main>
</body>
</html>
"#,
            self.body
        )
    }

    fn block(&mut self, class: &str, sentences: &[String]) {
        if !sentences.is_empty() {
            writeln!(self, r#"<div class="{class}">"#);
            for sentence in sentences {
                writeln!(self, "<p>{}</p>", escape(sentence));
            }
            writeln!(self, "</div>");
        }
    }

    /// Lets `writeln!(self, …)` add to the body; adding to a string cannot fail.
    fn write_fmt(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.body
            .write_fmt(arguments)
            .expect("writing to a string cannot fail");
    }
}

impl Section {
    fn entry(&self) -> String {
        let (title, headline) = (escape(&self.title), escape(&self.headline));
        format!(
            r##"<li><a href="#{}">{title}</a><span>{headline}</span></li>"##,
            self.id
        ) + "\n"
    }
}

/// A table being filled: columns first, then rows.
#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<(String, &'static str)>,
    rows: String,
    n_rows: usize,
}

impl Table {
    /// An empty table with its columns: a name that ends in `>` is right-aligned, in `~` wraps, in `#` is in
    /// fixed-width letters.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let class = |name: &str| match name.chars().last() {
            Some('>') => "r",
            Some('~') => "wrap",
            Some('#') => "mono",
            _ => "",
        };
        let columns = columns.iter().map(|name| {
            (
                name.trim_end_matches(['>', '~', '#']).to_owned(),
                class(name),
            )
        });
        Self {
            columns: columns.collect(),
            ..Self::default()
        }
    }

    /// Adds a row of cells.
    pub(crate) fn row(&mut self, cells: &[String]) {
        self.push_row(cells, "");
    }

    /// Adds a row that sums up others.
    pub(crate) fn strong(&mut self, cells: &[String]) {
        self.push_row(cells, r#" class="strong""#);
    }

    /// Adds a heading over the rows that follow.
    pub(crate) fn group(&mut self, title: &str) {
        let span = self.columns.len();
        let row = format!(
            r#"<tr class="g"><td colspan="{span}">{}</td></tr>"#,
            escape(title)
        );
        self.rows.push_str(&row);
    }

    /// Whether no row was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    fn push_row(&mut self, cells: &[String], class: &str) {
        self.n_rows += 1;
        let cells: String = cells
            .iter()
            .zip(&self.columns)
            .map(|(cell, (_, class))| tag("td", class, cell))
            .collect();
        writeln!(self.rows, "<tr{class}>{cells}</tr>").expect("writing to a string cannot fail");
    }

    fn html(&self) -> String {
        let head: String = self
            .columns
            .iter()
            .map(|(name, class)| tag("th", class, name))
            .collect();
        format!(
            "<table><thead><tr>{head}</tr></thead><tbody>\n{}</tbody></table>",
            self.rows
        )
    }
}

/// A formula: `_k` and `_{…}` become subscripts, `^T` and `^{…}` superscripts.
fn typeset(formula: &str) -> String {
    let mut out = String::new();
    let mut rest = formula;
    while let Some(place) = rest.find(['_', '^']) {
        let tag = if rest[place..].starts_with('_') {
            "sub"
        } else {
            "sup"
        };
        out.push_str(&escape(&rest[..place]));
        let after = &rest[place + 1..];
        let (inner, left) = match after
            .strip_prefix('{')
            .and_then(|braced| braced.split_once('}'))
        {
            Some(parts) => parts,
            None => after.split_at(after.chars().next().map_or(0, char::len_utf8)),
        };
        write!(out, "<{tag}>{}</{tag}>", escape(inner)).expect("writing to a string cannot fail");
        rest = left;
    }
    out + &escape(rest)
}

fn tag(name: &str, class: &str, text: &str) -> String {
    let attribute = if class.is_empty() {
        String::new()
    } else {
        format!(r#" class="{class}""#)
    };
    format!("<{name}{attribute}>{}</{name}>", escape(text))
}

fn keys(legend: &[(String, Style)]) -> String {
    if legend.is_empty() {
        return String::new();
    }
    let entry = |(label, style): &(String, Style)| {
        format!("<span>{}{}</span>", canvas::key(*style), escape(label))
    };
    format!(
        r#"<div class="keys">{}</div>"#,
        legend.iter().map(entry).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_carry_their_alignment() {
        let mut table = Table::new(&["task", "n>"]);
        table.row(&["a<b".to_owned(), "3".to_owned()]);
        assert!(
            table
                .html()
                .contains("<tr><td>a&lt;b</td><td class=\"r\">3</td></tr>")
        );
    }

    #[test]
    fn formulas_have_sub_and_superscripts() {
        assert_eq!(
            typeset("d_k^T < f^{after}"),
            "d<sub>k</sub><sup>T</sup> &lt; f<sup>after</sup>"
        );
    }

    #[test]
    fn sections_and_figures_are_numbered() {
        let mut page = Page::default();
        page.section("one", "One");
        page.headline("found <nothing>");
        page.figure(&["<svg></svg>".to_owned()], &[], "n = 3");
        let html = page.finish("T", "L", "{}");
        assert!(html.contains(r#"<h2 id="one"><span class="n">1</span>One</h2>"#));
        assert!(html.contains("<b>Figure 1.</b> n = 3"));
        assert!(html.contains("<span>found &lt;nothing&gt;</span>"));
    }
}

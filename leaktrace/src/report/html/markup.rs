//! Owns how text becomes part of a page: escaped, always, unless it is the page's own.
//! Must not know reports.

use std::fmt::Write as _;

use crate::report::escape::visible;

/// A page in the making. `raw` is for what stands in this program's text, `text` for all else.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Markup of the page's own.
    pub fn raw(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Foreign text, fit for an element or a quoted attribute.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in visible(text, false).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '`' => self.0.push_str("&#96;"),
                _ => self.0.push(c),
            }
        }
        self
    }

    /// A number in digits; what is not finite is zero.
    pub fn number(&mut self, number: f64) -> &mut Self {
        let number = if number.is_finite() { number } else { 0.0 };
        // Three digits behind the point are finer than any screen.
        let rounded = (number * 1e3).round() / 1e3;
        write!(self.0, "{rounded}").expect("a String takes all");
        self
    }

    /// A whole number in digits.
    pub fn whole(&mut self, number: u64) -> &mut Self {
        write!(self.0, "{number}").expect("a String takes all");
        self
    }

    /// An element with text alone; the class is the page's own.
    pub fn element(&mut self, tag: &str, class: &str, text: &str) -> &mut Self {
        self.raw("<").raw(tag);
        if !class.is_empty() {
            self.raw(" class=\"").raw(class).raw("\"");
        }
        self.raw(">").text(text).raw("</").raw(tag).raw(">")
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// Begins a table that is sorted by its heads, each with its class, the kind of its column and its text; a column with
/// courses over time comes last.
pub(super) fn heads(
    page: &mut Markup,
    id: &'static str,
    columns: &[(&'static str, &'static str, &'static str)],
) {
    page.raw("<table class=\"sortable\" id=\"")
        .raw(id)
        .raw("\"><thead><tr>");
    for (class, kind, head) in columns {
        page.raw("<th scope=\"col\" class=\"").raw(class);
        page.raw("\" data-kind=\"").raw(kind);
        page.raw("\"><button type=\"button\">")
            .raw(head)
            .raw("</button></th>");
    }
    page.raw("<th scope=\"col\" class=\"wide\">Over time</th></tr></thead>");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing leaves its element or its attribute.
    #[test]
    fn foreign_text_is_escaped() {
        let mut page = Markup::default();
        page.element(
            "td",
            "name",
            "<script>alert(1)</script>\"' onload=`x`&amp;\u{202e}\n",
        );
        assert_eq!(
            page.into_string(),
            "<td class=\"name\">&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=&#96;x&#96;\
             &amp;amp;\\u{202e}\\n</td>"
        );
    }

    /// Numbers are digits whatever they are.
    #[test]
    fn numbers_are_digits() {
        let mut page = Markup::default();
        page.number(f64::NAN)
            .raw(" ")
            .number(1.23456)
            .raw(" ")
            .number(-2.0)
            .raw(" ")
            .whole(7);
        assert_eq!(page.into_string(), "0 1.235 -2 7");
    }
}

//! What a doc comment tells the model.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// Returns the text of the doc comment among `attributes`, without what indents all of it; none if
/// there is no text.
pub(crate) fn description(attributes: &[Attribute]) -> Option<String> {
    let text: Vec<String> = attributes.iter().filter_map(text_of).collect();
    let lines: Vec<&str> = text.iter().flat_map(|part| part.lines()).map(str::trim_end).collect();
    let indents = lines.iter().filter(|line| !line.is_empty());
    let indent = indents.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let lines: Vec<&str> = lines.iter().map(|line| line.get(indent..).unwrap_or("")).collect();
    let text = lines.join("\n").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn text_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(doc) = &attribute.meta else { return None };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &doc.value else { return None };
    // An empty line of a comment is one of the text, too.
    let text = if text.value().is_empty() { "\n".to_owned() } else { text.value() };
    doc.path.is_ident("doc").then_some(text)
}

#[cfg(test)]
mod tests {
    use syn::{ItemFn, parse_quote};

    use super::*;

    #[test]
    fn a_comment_keeps_its_paragraphs_and_loses_its_indent() {
        let item: ItemFn = parse_quote! {
            /// Blocks the card.
            ///
            /// - for good
            ///   and all
            #[must_use]
            async fn block() {}
        };
        let text = description(&item.attrs).unwrap();
        assert_eq!(text, "Blocks the card.\n\n- for good\n  and all");
    }

    #[test]
    fn an_empty_comment_is_none() {
        let item: ItemFn = parse_quote! {
            ///
            #[must_use]
            async fn block() {}
        };
        assert_eq!(description(&item.attrs), None);
    }
}

//! Where in a tenant's code an error happened, as the server tells it.

/// The innermost function that a server's CONTEXT names: `public.f(integer)` of PL/pgSQL, a bare name of the other languages.
#[must_use]
pub fn function(context: &str) -> Option<String> {
    context.lines().find_map(|line| {
        let (_, named) = line.split_once("function ")?;
        if let Some(quoted) = named.strip_prefix('"') {
            return quoted.split_once("\" ").map(|(name, _)| name.to_owned());
        }
        // Only PL/pgSQL names it by its signature; its own lines also quote source text, which goes no further.
        let end = [" line ", " during ", " while "].iter().filter_map(|word| named.find(word)).min()?;
        line.contains("PL/pgSQL function ").then(|| named[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn the_innermost_function() {
        for (context, expected) in [
            ("PL/pgSQL function public.f(integer) line 1 at RETURN", Some("public.f(integer)")),
            ("CONTEXT:  PL/pgSQL function f(text,integer) while casting return value", Some("f(text,integer)")),
            ("SQL function \"g\" during inlining\nPL/pgSQL function f() line 2 at SQL statement", Some("g")),
            ("SQL statement \"SELECT 'function x line 1'\"\n\tPL/pgSQL function f() line 2 at SQL statement", Some("f()")),
            ("COPY t, line 1: \"1\"", None),
            ("", None),
        ] {
            assert_eq!(function(context).as_deref(), expected, "{context}");
        }
    }
}

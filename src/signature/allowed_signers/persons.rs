//! How many persons signed: the same key under two names is one, and so are two keys under the same name.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{AllowedSigners, Signer};
use crate::{id::Sha256Digest, signature::Namespace};

/// Everybody who may be one and the same: all that is linked by a line of the file, in any namespace and at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// Names.
    pub principals: BTreeSet<String>,
    /// Keys.
    pub keys: BTreeSet<Sha256Digest>,
}

impl AllowedSigners {
    /// Whose signature in `namespace` counts at `now`.
    #[must_use]
    pub fn who_may(&self, namespace: Namespace, now: DateTime<Utc>) -> Vec<Signer> {
        self.lines.iter().filter(|line| line.may(namespace) && line.is_valid(now)).map(super::Line::signer).collect()
    }

    /// The persons of the file. A line links its principal with its key, whatever it allows and however long: whoever shares a key or a name with
    /// somebody, by however many lines, is counted as one with them.
    #[must_use]
    pub fn persons(&self) -> Vec<Person> {
        let mut persons: Vec<Person> = Vec::new();
        for signer in self.lines.iter().map(super::Line::signer) {
            // `Ann` and `ann` are one.
            let name = signer.principal.to_lowercase();
            let has_name = |person: &Person| person.principals.iter().any(|other| other.to_lowercase() == name);
            let is_linked = |person: &mut Person| has_name(person) || person.keys.contains(&signer.key);
            let mut linked = Person::default();
            for person in persons.extract_if(.., is_linked) {
                linked.principals.extend(person.principals);
                linked.keys.extend(person.keys);
            }
            linked.principals.insert(signer.principal.clone());
            linked.keys.insert(signer.key);
            persons.push(linked);
        }
        persons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SigningKey;

    #[test]
    fn who_shares_a_key_or_a_name_is_one() {
        let keys: Vec<String> = (0..5).map(|_| SigningKey::generate("x").public_openssh().unwrap()).collect();
        let line = |who: &str, what: &str, key: usize| format!("{who} namespaces=\"{what}\" {}\n", keys[key]);
        let plan = "tenure-plan";
        let persons = |lines: &[String]| {
            let mut persons = AllowedSigners::parse(&lines.concat()).unwrap().persons();
            persons.sort_by_key(|person| person.principals.first().cloned());
            persons
                .into_iter()
                .map(|person| (person.principals.into_iter().collect::<Vec<_>>().join(" "), person.keys.len()))
                .collect::<Vec<_>>()
        };
        let one = |name: &str, keys: usize| (name.to_owned(), keys);
        assert_eq!(persons(&[line("ann", plan, 0), line("bob", plan, 1)]), [one("ann", 1), one("bob", 1)]);
        assert_eq!(persons(&[line("ann", plan, 0), line("bob", plan, 0)]), [one("ann bob", 1)], "one key, two names");
        assert_eq!(persons(&[line("ann", plan, 0), line("ann", plan, 1)]), [one("ann", 2)], "one name, two keys");
        assert_eq!(persons(&[line("Ann@vm", plan, 0), line("ann@VM", plan, 1)]), [one("Ann@vm ann@VM", 2)], "whatever the case");
        // Over what a third line says, of another namespace and of another time too.
        let far = [line("ann", plan, 0), line("bob", plan, 1), line("cleo", plan, 2), line("ann", "tenure-run", 1)];
        assert_eq!(persons(&far), [one("ann bob", 2), one("cleo", 1)]);
        let long = [line("ann", plan, 0), line("bob", plan, 1), line("dan", plan, 3), line("bob", plan, 0), line("dan", plan, 1)];
        assert_eq!(persons(&long), [one("ann bob dan", 3)]);
        let old = format!("ann namespaces=\"{plan}\",valid-before=\"20200101Z\" {}\n", keys[1]);
        assert_eq!(persons(&[line("ann", plan, 0), line("bob", plan, 1), old]), [one("ann bob", 2)]);
    }
}

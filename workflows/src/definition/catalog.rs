//! The definitions that are shipped with the program.

/// Name and text of every definition in `workflows/catalog/`.
pub fn catalog() -> &'static [(&'static str, &'static str)] {
    &[("search", include_str!("../../catalog/search.json"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_loads_without_a_warning() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/catalog")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap().replace(".json", "")).collect();
        names.sort();
        assert_eq!(names, catalog().iter().map(|(name, _)| *name).collect::<Vec<_>>(), "a file is not in the catalog");
        for (name, text) in catalog() {
            let document = crate::definition::parse(text).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert_eq!(document.workflow.name, *name);
            assert_eq!(document.warnings, []);
        }
    }
}

//! The figures of the tree's shape as one table, and the ceiling of each.
//!
//! A ceiling falls, never rises: a change that leaves a figure lower lowers its
//! ceiling too. `DETAILS=1` prints what the figures of names count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::arrows::{between_packages, between_parts, part_of};
use crate::assert_none;
use crate::graph::Graph;
use crate::names::{Names, Sharing};
use crate::prose::Wording;
use crate::sizes::Inspection;
use crate::tree::{Source, packages, production};

const MAX_PARTS: usize = 20;
const MAX_ARROWS_OF_PARTS: usize = 87;
const MAX_ARROWS_OF_CRATES: usize = 11;
const MAX_CYCLES: usize = 0;
const MAX_FILES_OF_A_CYCLE: usize = 0;
const MAX_SHARED_TYPE_NAMES: usize = 76;
const MAX_TUPLE_PATTERNS: usize = 0;
const MAX_TUPLE_TYPES: usize = 0;
const MAX_REFUSED_NAMES: usize = 0;
const MAX_COMMENT_LINES_THAT_TELL: usize = 185;
const MAX_SEE_THE_MODULE: usize = 0;
const MAX_THE_ANSWER_IS: usize = 0;
const MAX_FOLDERS: usize = 2;

/// One line of the table.
struct Figure {
    name: &'static str,
    value: usize,
    ceiling: usize,
}

impl Figure {
    fn new(name: &'static str, value: usize, ceiling: usize) -> Self {
        Self {
            name,
            value,
            ceiling,
        }
    }

    fn fault(&self) -> Option<String> {
        let Self {
            name,
            value,
            ceiling,
        } = self;
        (value > ceiling).then(|| format!("{name}: {value}, and the ceiling is {ceiling}"))
    }

    fn line(&self) -> String {
        let line = format!("{:<44} {:>5} {:>8}", self.name, self.value, self.ceiling);
        if self.value < self.ceiling {
            return format!("{line}  the ceiling can be lowered");
        }
        line
    }
}

/// All that is measured of one tree.
struct Survey {
    sources: BTreeMap<PathBuf, Source>,
    graph: Graph,
    names: Names,
    wording: Wording,
}

impl Survey {
    fn of_tree() -> Self {
        let sources = production();
        Self {
            graph: Graph::of(&packages(), &sources),
            names: Names::of_tree(&sources),
            wording: Wording::of_tree(&sources),
            sources,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::from(self.figures_of_graph());
        figures.extend(self.figures_of_names());
        figures.extend(self.figures_of_prose());
        figures
    }

    fn figures_of_graph(&self) -> [Figure; 5] {
        let parts: BTreeSet<String> = self
            .sources
            .keys()
            .filter_map(|path| part_of(path))
            .collect();
        let of_parts = between_parts(&self.graph);
        let of_crates = between_packages(&self.graph, &packages());
        let count =
            |arrows: &BTreeMap<_, BTreeSet<String>>| arrows.values().map(BTreeSet::len).sum();
        let cycles = self.graph.cycles();
        let largest = cycles.first().map_or(0, Vec::len);
        [
            Figure::new("parts of runtime/src", parts.len(), MAX_PARTS),
            Figure::new("arrows between them", count(&of_parts), MAX_ARROWS_OF_PARTS),
            Figure::new(
                "arrows between crates",
                count(&of_crates),
                MAX_ARROWS_OF_CRATES,
            ),
            Figure::new("cycles of imports", cycles.len(), MAX_CYCLES),
            Figure::new("files of the largest cycle", largest, MAX_FILES_OF_A_CYCLE),
        ]
    }

    fn figures_of_names(&self) -> [Figure; 4] {
        let names = &self.names;
        let shared = self.sharing().sharing;
        let patterns = names.tuple_patterns.len();
        let types = names.tuple_types.len();
        let refused = names.refused.len();
        [
            Figure::new(
                "types that share a name in their crate",
                shared,
                MAX_SHARED_TYPE_NAMES,
            ),
            Figure::new(
                "parameters that are tuple patterns",
                patterns,
                MAX_TUPLE_PATTERNS,
            ),
            Figure::new("parameters of tuple types", types, MAX_TUPLE_TYPES),
            Figure::new("names with a refused word", refused, MAX_REFUSED_NAMES),
        ]
    }

    fn figures_of_prose(&self) -> [Figure; 4] {
        let wording = &self.wording;
        let telling = wording.comment_lines_that_tell;
        let see = wording.see_the_module;
        let answers = wording.the_answer_is;
        [
            Figure::new(
                "comment lines with tell or say",
                telling,
                MAX_COMMENT_LINES_THAT_TELL,
            ),
            Figure::new("\"See the module.\"", see, MAX_SEE_THE_MODULE),
            Figure::new("\"The answer is\"", answers, MAX_THE_ANSWER_IS),
            Figure::new(
                "\"folder\" in prose and literals",
                wording.folders,
                MAX_FOLDERS,
            ),
        ]
    }

    /// Of all crates together.
    fn sharing(&self) -> Sharing {
        let sum = |sum: Sharing, of_crate: &Sharing| Sharing {
            types: sum.types + of_crate.types,
            sharing: sum.sharing + of_crate.sharing,
        };
        self.names.sharing().values().fold(Sharing::default(), sum)
    }

    fn table(&self) -> String {
        let mut lines = vec![format!("{:<44} {:>5} {:>8}", "", "today", "ceiling")];
        lines.extend(self.figures().iter().map(Figure::line));
        lines.push(
            "\ntypes that share their name with another of their crate, without Error".into(),
        );
        let share = |name: &str, sharing: Sharing| {
            let Sharing { types, sharing: of } = sharing;
            format!("{name:<44} {:>4} % ({of} of {types})", sharing.percent())
        };
        let crates = self.names.sharing();
        lines.extend(crates.iter().map(|(name, sharing)| share(name, *sharing)));
        lines.push(share("all", self.sharing()));
        lines.push(String::new());
        lines.extend(self.longest());
        lines.join("\n")
    }

    fn longest(&self) -> [String; 2] {
        let measured: Vec<_> = self
            .sources
            .iter()
            .map(|(path, source)| (path.display(), Inspection::of(path, &source.text)))
            .collect();
        let (path, file) = measured.iter().max_by_key(|(_, file)| file.lines).unwrap();
        let file = format!("longest file: {} lines, {path}", file.lines);
        let functions = measured
            .iter()
            .filter_map(|(path, file)| Some((path, file.longest_function.as_ref()?)));
        let (path, function) = functions
            .max_by_key(|(_, function)| function.lines)
            .unwrap();
        let function = format!(
            "longest function: {} lines, {path}:{}",
            function.lines, function.name
        );
        [file, function]
    }

    /// What each figure of names counts.
    fn details(&self) -> String {
        let lists = [
            ("shared type names", self.names.shared()),
            ("tuple patterns", self.names.tuple_patterns.clone()),
            ("tuple types", self.names.tuple_types.clone()),
            ("refused words", self.names.refused.clone()),
        ];
        lists
            .iter()
            .map(|(title, list)| format!("\n{title}\n  {}\n", list.join("\n  ")))
            .collect()
    }
}

#[test]
fn figures_are_below_their_ceilings() {
    let survey = Survey::of_tree();
    println!("\n{}", survey.table());
    if std::env::var_os("DETAILS").is_some() {
        println!("{}", survey.details());
    }
    let faults: Vec<String> = survey.figures().iter().filter_map(Figure::fault).collect();
    assert_none(&faults);
}

#[test]
fn a_figure_may_fall_and_not_rise() {
    assert!(Figure::new("a", 2, 1).fault().is_some());
    assert!(Figure::new("a", 1, 1).fault().is_none());
    assert!(!Figure::new("a", 1, 1).line().contains("lowered"));
    assert!(Figure::new("a", 0, 1).line().contains("can be lowered"));
}

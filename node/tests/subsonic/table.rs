//! The table of `contract.txt`.

use std::collections::HashMap;

/// How a value looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Number,
    Decimal,
    Flag,
    Date,
    Rating,
    /// Text in an element of its own.
    Word,
    /// Text between tags.
    Value,
    /// An object of this type.
    Of(String),
    Many(Box<Form>),
}

impl Form {
    fn of(text: &str) -> Self {
        match text {
            "text" => Self::Text,
            "number" => Self::Number,
            "decimal" => Self::Decimal,
            "flag" => Self::Flag,
            "date" => Self::Date,
            "rating" => Self::Rating,
            "word" => Self::Word,
            "value" => Self::Value,
            _ => match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(inner) => Self::Many(Box::new(Self::of(inner))),
                None => Self::Of(text.to_owned()),
            },
        }
    }
}

/// Whether a field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Must,
    May,
    /// Everywhere or nowhere.
    Always,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) need: Need,
    pub(crate) form: Form,
}

impl Field {
    fn of(text: &str) -> Self {
        let (name, form) = text.split_once('=').unwrap_or_else(|| panic!("no form in {text:?}"));
        let (name, need) = match (name.strip_suffix('?'), name.strip_suffix('*')) {
            (Some(name), _) => (name, Need::May),
            (_, Some(name)) => (name, Need::Always),
            _ => (name, Need::Must),
        };
        Self { name: name.to_owned(), need, form: Form::of(form) }
    }
}

pub(crate) struct Method {
    pub(crate) name: String,
    /// What stands in the envelope.
    pub(crate) form: Option<(String, Form)>,
    /// Whether two requests give the same.
    pub(crate) same: bool,
}

/// All of it.
pub(crate) struct Contract {
    types: HashMap<String, Vec<String>>,
    pub(crate) methods: Vec<Method>,
}

impl Contract {
    pub(crate) fn read(text: &str) -> Self {
        let (mut types, mut methods) = (HashMap::<String, Vec<String>>::new(), Vec::new());
        let mut open = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            if line.starts_with(' ') {
                types.get_mut(&open).unwrap().extend(words.map(str::to_owned));
                continue;
            }
            match words.next() {
                Some("type") => {
                    open = words.next().unwrap().to_owned();
                    types.insert(open.clone(), words.map(str::to_owned).collect());
                }
                Some("method") => {
                    let name = words.next().unwrap().to_owned();
                    let form = words.next();
                    let same = !form.is_some_and(|form| form.starts_with('~'));
                    let form = form.map(|form| {
                        let (name, form) = form.trim_start_matches('~').split_once('=').unwrap();
                        (name.to_owned(), Form::of(form))
                    });
                    methods.push(Method { name, form, same });
                }
                Some(other) => panic!("{other:?} begins no line of the contract"),
                None => {}
            }
        }
        // The envelope with what each method puts into it.
        for Method { name, form, .. } in &methods {
            let mut words = vec!["+Envelope".to_owned()];
            let inner = |(name, form): &(String, Form)| match form {
                Form::Many(inner) => format!("{name}=[{}]", type_name(inner)),
                form => format!("{name}={}", type_name(form)),
            };
            words.extend(form.as_ref().map(inner));
            types.insert(format!("envelope of {name}"), words);
        }
        Self { types, methods }
    }

    /// The type of the whole answer of a method.
    pub(crate) fn envelope(&self, method: &Method) -> String {
        format!("envelope of {}", method.name)
    }

    /// All fields of a type.
    pub(crate) fn fields(&self, name: &str) -> Vec<Field> {
        let words = self.types.get(name).unwrap_or_else(|| panic!("the contract has no type {name:?}"));
        let fields = words.iter().flat_map(|word| match word.strip_prefix('+') {
            Some(base) => self.fields(base),
            None => vec![Field::of(word)],
        });
        fields.collect()
    }
}

fn type_name(form: &Form) -> &str {
    match form {
        Form::Of(name) => name,
        other => panic!("{other:?} is no type"),
    }
}

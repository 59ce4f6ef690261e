//! One row of the table of settings: a flag with its variable, an annotation, or both.

use std::borrow::Cow;

use super::values::{self, InvalidValue, SettingValue};

/// What all names of annotations begin with.
pub const ANNOTATION_PREFIX: &str = "bfb.dev/";

/// Says what a value must be, if a text is none.
type ValueCheck = fn(&str) -> Result<(), InvalidValue>;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag without its dashes, and the annotation without its prefix.
    pub name: &'static str,
    /// The flag of a command, with its variable.
    pub flag: Option<Flag>,
    /// The annotation of a pod.
    pub annotation: Option<Annotation>,
}

/// A flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// What its value is called; `None` for a switch, which has none.
    pub value_name: Option<&'static str>,
    /// What holds without it.
    pub default: DefaultValue,
    /// What `--help` says.
    pub help: &'static str,
    /// What the documentation says instead, in Markdown.
    pub docs: Option<&'static str>,
    /// Checks a value, where the setting has a type of its own.
    check: Option<ValueCheck>,
}

/// What holds where nothing is said.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    /// Nothing.
    Absent,
    /// This value, which is that of the setting's type.
    OfType(fn() -> String),
    /// This value.
    Text(&'static str),
    /// Something that only words can say.
    InWords(&'static str),
}

impl DefaultValue {
    /// The value, where it is one.
    pub fn value(self) -> Option<Cow<'static, str>> {
        match self {
            Self::OfType(text) => Some(text().into()),
            Self::Text(text) => Some(text.into()),
            Self::Absent | Self::InWords(_) => None,
        }
    }

    /// What to say of it; empty where nothing holds.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::InWords(words) => words.into(),
            _ => self.value().unwrap_or_default(),
        }
    }
}

/// An annotation.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// What its value is called.
    pub value_name: &'static str,
    /// Who writes it.
    pub writer: AnnotationWriter,
    /// What its value is, and what it becomes in the pod.
    pub form: AnnotationForm,
    /// What holds without it, if not what holds without the flag.
    default: Option<DefaultValue>,
    /// What it does, if that is not what the flag does.
    description: Option<&'static str>,
    /// What a value must be, where messages say it otherwise than the flag's.
    expected: Option<&'static str>,
    /// Whether it means nothing without a Redis.
    pub needs_redis: bool,
    /// Whether its value may be a password or personal data, so that no message repeats it.
    pub is_confidential: bool,
}

/// Who writes an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationWriter {
    /// People, one pod at a time.
    Pod,
    /// People, and a default for all pods may be given.
    PodOrDefault,
    /// `bfb` itself.
    Bfb,
}

/// What an annotation's value is, and what it becomes in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationForm {
    /// The flag's value: it becomes the flag's variable as it is.
    FlagValue,
    /// `"true"` or `"false"`: where there is such a switch, its variable as it is.
    Switch,
    /// One line of text: where there is such a flag, its variable as it is.
    Line,
    /// The domains of the pod: arguments and volumes.
    Domains,
    /// The container's image.
    Image,
    /// Where the certificate comes from: a volume.
    Identity,
    /// The names in the certificate: attributes of its volume.
    IdentityNames,
    /// Secrets and `ConfigMap`s: variables of the container.
    Objects,
    /// A URL, or a key of a Secret that holds one: a variable.
    Url,
    /// A key of a Secret: a file in a volume.
    SecretKey,
    /// A key of a Secret or a `ConfigMap`: a file in a volume.
    Key,
    /// A Secret: a volume.
    Secret,
    /// Addresses on loopback: a variable, and the ports that no container may have.
    LoopbackAddresses,
    /// An address that the kubelet reaches: a variable and the probes.
    ProbesAddress,
    /// How long a drain may take, within the pod's grace: a variable.
    Drain,
    /// A quantity of Kubernetes: a request or a limit.
    Quantity,
    /// A user id: the security context.
    User,
    /// What `bfb inject --uninject` must know: a note of ours.
    Undo,
}

impl Setting {
    /// The variable of its flag: `--bus-loss` is `BFB_BUS_LOSS`.
    pub fn variable(&self) -> Option<String> {
        self.flag.map(|_| format!("BFB_{}", self.name.replace('-', "_").to_uppercase()))
    }

    /// The whole name of its annotation.
    pub fn annotation_name(&self) -> String {
        format!("{ANNOTATION_PREFIX}{}", self.name)
    }

    /// Whether the annotation's value becomes the flag's variable as it is.
    pub fn is_passed_through(&self) -> bool {
        use AnnotationForm::{FlagValue, Line, Switch};

        let form = self.annotation.map(|annotation| annotation.form);
        self.flag.is_some() && matches!(form, Some(FlagValue | Switch | Line))
    }

    /// Checks a value of the flag.
    pub fn check_flag_value(&self, text: &str) -> Result<(), InvalidValue> {
        let check = self.flag.and_then(|flag| flag.check);
        let expected = self.annotation.and_then(|annotation| annotation.expected);
        check
            .map_or(Ok(()), |check| check(text))
            .map_err(|invalid| InvalidValue { expected: expected.unwrap_or(invalid.expected) })
    }

    /// What holds without the annotation; empty where nothing does.
    pub fn annotation_default(&self) -> Cow<'static, str> {
        match (self.annotation.and_then(|annotation| annotation.default), self.flag) {
            (Some(default), _) => default.text(),
            (None, Some(Flag { value_name: None, .. })) => "false".into(),
            (None, Some(flag)) => flag.default.text(),
            (None, None) => "".into(),
        }
    }

    /// What the annotation does.
    pub fn annotation_description(&self) -> Cow<'static, str> {
        let description = self.annotation.and_then(|annotation| annotation.description);
        description.map_or_else(|| self.flag_description(), Cow::Borrowed)
    }

    /// What the flag does, in the documentation's words.
    pub fn flag_description(&self) -> Cow<'static, str> {
        let Some(flag) = self.flag else { return "".into() };
        flag.docs.map_or_else(|| lower_first(flag.help).into(), Cow::Borrowed)
    }
}

/// A sentence as a part of another one.
fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + rest.as_str()
}

/// A flag that takes a value.
pub(super) const fn flag(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Setting {
    flag_with(name, Some(value_name), help)
}

/// A flag that takes none.
pub(super) const fn switch(name: &'static str, help: &'static str) -> Setting {
    flag_with(name, None, help)
}

const fn flag_with(
    name: &'static str,
    value_name: Option<&'static str>,
    help: &'static str,
) -> Setting {
    let flag = Flag { value_name, default: DefaultValue::Absent, help, docs: None, check: None };
    Setting { name, flag: Some(flag), annotation: None }
}

/// An annotation that is no flag.
pub(super) const fn pod_setting(name: &'static str, annotation: Annotation) -> Setting {
    Setting { name, flag: None, annotation: Some(annotation) }
}

impl Setting {
    /// The values are those of `T`, and so is the default.
    pub(super) const fn of<T: SettingValue>(self) -> Self {
        self.checked_as::<T>().defaults_to(DefaultValue::OfType(values::default_text::<T>))
    }

    /// The values are those of `T`; without one, something else holds than its default.
    pub(super) const fn checked_as<T: SettingValue>(mut self) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.check = Some(values::check::<T>);
        }
        self
    }

    pub(super) const fn defaults_to(mut self, default: DefaultValue) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.default = default;
        }
        self
    }

    /// The documentation says more than `--help`.
    pub(super) const fn documented(mut self, docs: &'static str) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.docs = Some(docs);
        }
        self
    }

    /// A pod's annotation sets it too.
    pub(super) const fn annotated(mut self, annotation: Annotation) -> Self {
        self.annotation = Some(annotation);
        self
    }
}

/// An annotation with values of this form, which the pod or a default for all pods gives.
pub(super) const fn annotation(value_name: &'static str, form: AnnotationForm) -> Annotation {
    Annotation {
        value_name,
        writer: AnnotationWriter::PodOrDefault,
        form,
        default: None,
        description: None,
        expected: None,
        needs_redis: false,
        is_confidential: false,
    }
}

impl Annotation {
    pub(super) const fn described(self, description: &'static str) -> Self {
        Self { description: Some(description), ..self }
    }

    /// Without it something else holds than without the flag.
    pub(super) const fn defaults_to(self, default: DefaultValue) -> Self {
        Self { default: Some(default), ..self }
    }

    pub(super) const fn expecting(self, expected: &'static str) -> Self {
        Self { expected: Some(expected), ..self }
    }

    pub(super) const fn written_by(self, writer: AnnotationWriter) -> Self {
        Self { writer, ..self }
    }

    pub(super) const fn needing_redis(self) -> Self {
        Self { needs_redis: true, ..self }
    }

    pub(super) const fn confidential(self) -> Self {
        Self { is_confidential: true, ..self }
    }
}

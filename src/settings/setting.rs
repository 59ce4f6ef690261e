//! One row of the table of settings: a flag with its variable, an annotation, or both.

use std::borrow::Cow;

use super::values::{self, InvalidValue, SettingValue};

/// The prefix of all annotations.
pub const ANNOTATION_PREFIX: &str = "bfb.dev/";

/// The form that a value must have, if a text has not got it.
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
    /// The name of its value in `--help`; `None` for a switch, which has none.
    pub value_name: Option<&'static str>,
    /// Its default.
    pub default: DefaultValue,
    /// The text of `--help`.
    pub help: &'static str,
    /// The text of the documentation, in Markdown, where it is another.
    pub docs: Option<&'static str>,
    /// Checks a value, where the setting has a type of its own.
    check: Option<ValueCheck>,
}

/// The default of a setting.
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

    /// Its text; empty where there is none.
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
    /// The name of its value.
    pub value_name: &'static str,
    /// Its author.
    pub writer: AnnotationWriter,
    /// The form of its value, and what it becomes in the pod.
    pub form: AnnotationForm,
    /// Its default, where it differs from the flag's.
    default: Option<DefaultValue>,
    /// Its description, where it differs from the flag's.
    description: Option<&'static str>,
    /// The form of its value for messages, where it differs from the flag's.
    expected: Option<&'static str>,
    /// Whether it means nothing without a Redis.
    pub needs_redis: bool,
    /// Whether its value may be a password or personal data, so that no message repeats it.
    pub is_confidential: bool,
}

/// The author of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationWriter {
    /// People, one pod at a time.
    Pod,
    /// People, and a default for all pods may be given.
    PodOrDefault,
    /// `bfb` itself.
    Bfb,
}

/// The form of an annotation's value, and what it becomes in the pod.
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
    /// A note that `bfb inject` writes for `bfb inject --uninject`.
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

    /// The default of the annotation; empty where there is none.
    pub fn annotation_default(&self) -> Cow<'static, str> {
        match (self.annotation.and_then(|annotation| annotation.default), self.flag) {
            (Some(default), _) => default.text(),
            (None, Some(Flag { value_name: None, .. })) => "false".into(),
            (None, Some(flag)) => flag.default.text(),
            (None, None) => "".into(),
        }
    }

    /// The description of the annotation.
    pub fn annotation_description(&self) -> Cow<'static, str> {
        let description = self.annotation.and_then(|annotation| annotation.description);
        description.map_or_else(|| self.flag_description(), Cow::Borrowed)
    }

    /// The description of the flag in the documentation.
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

    /// Sets the text of the documentation, which says more than `--help`.
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

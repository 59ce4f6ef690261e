//! The annotations of the table of settings: finds them by name, and checks their values.

use std::borrow::Cow;

use super::parse::{self, ExpectedText};
use crate::diagnostics::nearest;
use crate::settings::{self, Annotation, AnnotationForm, AnnotationWriter, Setting};

pub(super) use crate::settings::ANNOTATION_PREFIX as PREFIX;

/// The value of `bfb.dev/status` in a pod that has its sidecar.
pub(super) const STATUS_INJECTED: &str = "injected";

/// A setting that a pod can have as an annotation.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodSetting {
    setting: &'static Setting,
    pub(super) annotation: Annotation,
}

impl PodSetting {
    /// The annotation's name without the prefix.
    pub(super) fn name(self) -> &'static str {
        self.setting.name
    }

    /// The annotation's name with the prefix.
    pub(super) fn full_name(self) -> String {
        self.setting.annotation_name()
    }

    /// The default, for a message.
    pub(super) fn default_text(self) -> Cow<'static, str> {
        self.setting.annotation_default()
    }

    /// The sidecar's variable that gets the value unchanged, if there is one.
    pub(super) fn passthrough_variable(self) -> Option<String> {
        self.setting.variable().filter(|_| self.setting.is_passed_through())
    }

    /// Checks a value. Its length is checked first, so that the other checks only see short texts,
    /// and need not be fast on long ones.
    pub(super) fn check(self, text: &str) -> Result<(), ExpectedText> {
        let max_bytes = if self.annotation.writer == AnnotationWriter::Bfb {
            parse::BFB_VALUE_MAX_BYTES
        } else {
            parse::VALUE_MAX_BYTES
        };
        if text.len() > max_bytes {
            Err("a value of at most 4096 bytes")
        } else {
            self.check_form(text)
        }
    }

    fn check_form(self, text: &str) -> Result<(), ExpectedText> {
        match self.annotation.form {
            AnnotationForm::FlagValue | AnnotationForm::Drain => {
                self.setting.check_flag_value(text).map_err(|invalid| invalid.expected)
            }
            AnnotationForm::Switch => parse::boolean(text).map(drop),
            AnnotationForm::Line => parse::line(text),
            AnnotationForm::Domains => parse::inject_request(text).map(drop),
            AnnotationForm::Image => parse::image(text),
            AnnotationForm::Identity => parse::identity(text).map(drop),
            AnnotationForm::IdentityNames => parse::names(text).map(drop),
            AnnotationForm::Objects => parse::objects(text).map(drop),
            AnnotationForm::Url => parse::url(text).map(drop),
            AnnotationForm::SecretKey => parse::secret_key(text).map(drop),
            AnnotationForm::Key => parse::key(text).map(drop),
            AnnotationForm::Secret => parse::secret(text).map(drop),
            AnnotationForm::LoopbackAddresses => parse::listen(text).map(drop),
            AnnotationForm::ProbesAddress => parse::probes(text).map(drop),
            AnnotationForm::Quantity => parse::quantity(text).map(drop),
            AnnotationForm::User => parse::user(text).map(drop),
            AnnotationForm::Undo => parse::undo(text),
        }
    }
}

/// All annotations, in the order of the table.
pub(super) fn annotations() -> impl Iterator<Item = PodSetting> {
    settings::annotations().filter_map(|setting| {
        setting.annotation.map(|annotation| PodSetting { setting, annotation })
    })
}

/// The annotation with this name (without the prefix).
pub(super) fn find(name: &str) -> Option<PodSetting> {
    annotations().find(|row| row.name() == name)
}

/// The annotation with the most similar name, for a hint.
pub(super) fn nearest_to(name: &str) -> Option<&'static str> {
    let is_set_by_people = |row: &PodSetting| row.annotation.writer != AnnotationWriter::Bfb;
    nearest(name, annotations().filter(is_set_by_people).map(PodSetting::name))
}

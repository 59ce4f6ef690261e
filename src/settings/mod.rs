//! Every setting, once: flags with their variables, annotations of pods, their values and defaults.
//!
//! The table has a row a setting ([`sidecar`], [`webhook`]). `clap` takes the variable, the name of
//! the value, the default and the help of a flag from it, `inject` takes the annotations, and the
//! tables in `docs/` are generated from it. Values have types of their own here ([`Lease`],
//! [`MemorySize`], [`Namespace`] …): a flag, a variable and an annotation are read by the same
//! `FromStr`. The effect of a setting belongs to the part that is built from it.

mod amounts;
mod choices;
mod markdown;
mod setting;
mod sidecar_table;
mod texts;
mod times;
mod values;
mod webhook_table;

pub use amounts::{MemorySize, SampleRate, SocketMode};
pub use choices::{BusLoss, CacheControlPolicy, LogFormat};
pub use setting::{
    ANNOTATION_PREFIX, Annotation, AnnotationForm, AnnotationWriter, DefaultValue, Flag, Setting,
};
pub use sidecar_table::{
    DEFAULT_CPU_REQUEST, DEFAULT_IDENTITY, DEFAULT_IDENTITY_NAMES, DEFAULT_IMAGE, DEFAULT_PROBES,
    DEFAULT_USER,
};
pub use texts::{LogFilter, Namespace};
pub use times::{
    CertificateLifetime, DrainTime, FailoverGrace, LeaderLease, Lease, WatchdogInterval, parse_time,
};
pub use values::{InvalidValue, SettingValue};

/// The settings of a sidecar, in the order of the table.
pub fn sidecar() -> &'static [Setting] {
    sidecar_table::SIDECAR
}

/// The settings of a webhook, those for tests at the end.
pub fn webhook() -> impl Iterator<Item = &'static Setting> {
    webhook_table::WEBHOOK.iter().chain(webhook_table::WEBHOOK_HIDDEN)
}

/// The annotations of a pod, in the order of the table.
pub fn annotations() -> impl Iterator<Item = &'static Setting> {
    sidecar().iter().filter(|setting| setting.annotation.is_some())
}

/// The table of the flags of `bfb serve`, as it stands in the documentation.
pub fn sidecar_flags_table() -> String {
    markdown::flags(sidecar().iter())
}

/// The table of the flags of `bfb webhook`, as it stands in the documentation.
pub fn webhook_flags_table() -> String {
    markdown::flags(webhook_table::WEBHOOK.iter())
}

/// The table of annotations, as it stands in the documentation.
pub fn annotations_table() -> String {
    markdown::annotations(annotations())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_is_a_value() {
        for setting in sidecar().iter().chain(webhook()) {
            let default = setting.flag.and_then(|flag| flag.default.value());
            let Some(default) = default else { continue };
            assert_eq!(setting.check_flag_value(&default), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn no_flag_and_no_annotation_stands_twice() {
        let count = |names: Vec<&str>| (names.len(), names.iter().collect::<BTreeSet<_>>().len());
        for settings in [sidecar().iter().collect::<Vec<_>>(), webhook().collect()] {
            let flags = settings.iter().filter(|setting| setting.flag.is_some());
            let (all, distinct) = count(flags.map(|setting| setting.name).collect());
            assert_eq!(all, distinct);
        }
        let (all, distinct) = count(annotations().map(|setting| setting.name).collect());
        assert_eq!(all, distinct);
    }

    #[test]
    fn what_passes_through_is_checked() {
        for setting in annotations().filter(|setting| setting.is_passed_through()) {
            let is_free = matches!(
                setting.annotation.map(|annotation| annotation.form),
                Some(AnnotationForm::Switch | AnnotationForm::Line)
            );
            assert!(is_free || setting.check_flag_value("!wrong!").is_err(), "{}", setting.name);
        }
    }
}

//! What a worker is told: the configuration and the schedules, as its files say, or as they said when they last could be read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        Config,
        schedule::{
            Schedule,
            folder::{beside, files},
        },
    },
    operation::failure::{Failure, FailureClass},
};

/// What was read last, and counts.
pub struct Orders {
    file: PathBuf,
    names: Vec<String>,
    /// The configuration.
    pub config: Arc<Config>,
    /// The schedules, by the name of their file.
    schedules: BTreeMap<String, Schedule>,
    /// What cannot be read now, by file: what was read before goes on.
    pub broken: BTreeMap<PathBuf, Failure>,
    /// The texts of all files when they were last read.
    texts: BTreeMap<PathBuf, Option<String>>,
}

impl Orders {
    /// Reads everything for the first time. `names` are the schedules that this worker runs; none: all.
    ///
    /// # Errors
    /// The configuration cannot be read, no schedule can, or one that was named cannot.
    pub fn read(file: &Path, names: &[String]) -> Result<Self, Failure> {
        let config = Arc::new(Config::read(file)?);
        let mut orders = Self {
            file: file.to_owned(),
            names: names.to_vec(),
            config,
            schedules: BTreeMap::new(),
            broken: BTreeMap::new(),
            texts: BTreeMap::new(),
        };
        orders.read_schedules()?;
        let folder = beside(file);
        if let Some(name) = names.iter().find(|name| !orders.schedules.contains_key(*name)) {
            if let Some(failure) = orders.broken.remove(&folder.join(format!("{name}.toml"))) {
                return Err(failure);
            }
            let message = format!("there is no schedule `{name}` in {}", folder.display());
            return Err(Failure::new(FailureClass::Usage, "unknown-schedule", name, message).hint(
                "`tenure schedules` shows those that are there; `tenure schedules --write` writes those that tenure comes with",
            ));
        }
        if orders.schedules.is_empty()
            && let Some((_, failure)) = orders.broken.pop_first()
        {
            return Err(failure);
        }
        orders.texts = orders.texts();
        Ok(orders)
    }

    /// The schedules that this worker runs, as far as they are on.
    pub fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        let is_ours = |schedule: &&Schedule| self.names.is_empty() || self.names.contains(&schedule.name);
        self.schedules.values().filter(is_ours)
    }

    /// Whether some file is another one than when it was read.
    #[must_use]
    pub fn have_changed(&self) -> bool {
        self.texts() != self.texts
    }

    /// Reads everything again. What cannot be read stays as it was, and is in [`Orders::broken`].
    pub fn read_again(&mut self) {
        self.broken.clear();
        // Read first: what changes meanwhile is seen the next time.
        self.texts = self.texts();
        match Config::read(&self.file) {
            Ok(config) => self.config = Arc::new(config),
            Err(error) => _ = self.broken.insert(self.file.clone(), error.into()),
        }
        if let Err(failure) = self.read_schedules() {
            self.broken.insert(beside(&self.file), failure);
        }
    }

    fn read_schedules(&mut self) -> Result<(), Failure> {
        let mut before = std::mem::take(&mut self.schedules);
        let files = match files(&beside(&self.file)) {
            Ok(files) => files,
            Err(error) => {
                self.schedules = before;
                return Err(error.into());
            }
        };
        for file in files {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match Schedule::read(&file) {
                Ok(schedule) => _ = self.schedules.insert(name, schedule),
                Err(error) => {
                    self.schedules.extend(before.remove_entry(&name));
                    self.broken.insert(file, error.into());
                }
            }
        }
        Ok(())
    }

    fn texts(&self) -> BTreeMap<PathBuf, Option<String>> {
        let schedules = files(&beside(&self.file)).unwrap_or_default();
        let read = |file: PathBuf| {
            // A pipe could be waited for without end.
            let text = file.is_file().then(|| std::fs::read_to_string(&file).ok()).flatten();
            (file, text)
        };
        schedules.into_iter().chain([self.file.clone()]).map(read).collect()
    }
}

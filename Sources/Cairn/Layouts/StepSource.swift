public import Platform

/// Where the step of what is saved comes from.
public enum StepSource: String, Sendable, Hashable {
    /// `--step`
    case option
    /// The folder's or file's name.
    case name
    /// A file inside, such as `trainer_state.json`.
    case content

    /// The step to save under. `--step` beats what is found; what is found must agree.
    ///
    /// - Parameters:
    ///   - option: what `--step` says.
    ///   - name: the step in the name of what is saved, with that name for people.
    ///   - content: the step in a file inside, with that file's name for people.
    /// - Throws: a usage error where the name and the content disagree, where nothing says a step, or where
    ///   one is beyond `Step.maximum`.
    public static func decide(
        option: UInt64?, name: (text: String, step: UInt64)?, content: (file: String, step: UInt64)?
    ) throws(CairnError) -> (step: UInt64, source: StepSource) {
        let found: (UInt64, StepSource)
        if let option {
            found = (option, .option)
        } else if let name, let content, name.step != content.step {
            throw CairnError(
                .usage,
                "the name \(name.text) says step \(name.step), but \(content.file) says \(content.step); "
                    + "pass --step with the right one")
        } else if let name {
            found = (name.step, .name)
        } else if let content {
            found = (content.step, .content)
        } else {
            throw CairnError(
                .usage, "neither the name nor anything inside says which step this is; pass --step N")
        }
        guard found.0 <= Step.maximum else {
            throw CairnError(
                .usage, "\(found.0) is not a step; pass --step with one from 0 to \(Step.maximum)")
        }
        return found
    }
}

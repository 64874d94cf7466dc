package import TensorFormats

extension JSON {
    /// What `list` knows of an iteration; its metadata is read with the manifest, so that is only in `show`.
    package init(_ info: IterationInfo) {
        let infinite = info.metrics.filter(\.value.isInfinite)
        let fields = JSON.fields(
            ("run", JSON(info.run)), ("step", JSON(info.step)), ("id", JSON(info.idText)),
            ("createdAt", JSON(Timestamp(info.createdAt).iso8601)),
            ("parent", JSON(optional: info.parentText)),
            ("layout", JSON(info.layout)), ("tensors", JSON(info.tensors)), ("files", JSON(info.files)),
            ("logicalBytes", JSON(info.logicalBytes)), ("storedBytes", JSON(info.storedBytes)),
            ("metrics", JSON(metrics: info.metrics)), ("notes", .list(info.notes)),
            ("pins", .list(info.pins)), ("superseded", JSON(info.superseded)))
        self =
            infinite.isEmpty
            ? fields : .object(fields.members! + [.init("infiniteMetrics", JSON(infinite: infinite))])
    }

    /// What `show` knows of one.
    package init(_ details: IterationDetails) {
        // In `list` these two are counts.
        var members = JSON(details.info).members!.filter { $0.key != "tensors" && $0.key != "files" }
        members.append(.init("metadata", JSON(metadata: details.info.metadata)))
        let facts = details.understood.map { JSON.Member($0.name, JSON($0.value)) }
        members.append(.init("understood", .object(facts)))
        members.append(.init("tensors", .list(details.tensors) { JSON($0) }))
        members.append(.init("files", .list(details.files) { JSON($0) }))
        self = .object(members)
    }

    package init(_ tensor: TensorInfo) {
        self = .fields(
            ("name", JSON(tensor.name)), ("dtype", JSON(tensor.dtype)),
            ("shape", .list(tensor.shape) { JSON($0) }),
            ("bytes", JSON(tensor.bytes)), ("group", JSON(tensor.group)), ("pieces", JSON(tensor.pieces)),
            ("file", JSON(optional: tensor.file)))
    }

    package init(_ file: FileInfo) {
        self = .fields(
            ("path", JSON(file.path)), ("bytes", JSON(file.bytes)), ("kind", JSON(file.kind.rawValue)),
            ("mode", JSON(file.mode)), ("modifiedAt", JSON(Timestamp(file.modifiedAt).iso8601)),
            ("target", JSON(optional: file.target)))
    }

    package init(_ pin: PinInfo) {
        self = .fields(
            ("name", JSON(pin.name)), ("run", JSON(pin.run)), ("step", JSON(pin.step)), ("id", JSON(pin.id)))
    }

    package init(_ diff: IterationDiff) {
        self = .fields(
            ("added", .list(diff.added) { JSON($0) }), ("removed", .list(diff.removed) { JSON($0) }),
            ("changed", .list(diff.changed) { JSON($0) }), ("unchanged", JSON(diff.unchanged)),
            ("parts", .list(diff.parts) { JSON($0) }), ("addedFiles", .list(diff.addedFiles)),
            ("removedFiles", .list(diff.removedFiles)),
            ("changedFiles", .list(diff.changedFiles)), ("warnings", .list(diff.warnings)))
    }

    private init(_ part: IterationDiff.Part) {
        self = .fields(
            ("name", JSON(part.name)), ("changed", JSON(part.changed)), ("added", JSON(part.added)),
            ("removed", JSON(part.removed)), ("unchanged", JSON(part.unchanged)))
    }

    private init(_ change: IterationDiff.Change) {
        self = .fields(
            ("name", JSON(change.name)), ("aspects", .list(change.aspects.map(\.rawValue))),
            ("elements", JSON(change.elements)),
            ("changedElements", JSON(change.changedElements)), ("changedBytes", JSON(change.changedBytes)),
            ("maxAbsDifference", JSON(optional: change.maxAbsDifference)),
            ("before", JSON(change.before)), ("after", JSON(change.after)))
    }
}

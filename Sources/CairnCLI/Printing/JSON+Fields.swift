import Cairn

extension JSON {
    /// An object with its members in this order.
    static func fields(_ members: (String, JSON)...) -> JSON { .object(members.map { Member($0.0, $0.1) }) }

    /// An array of what `body` makes of each.
    static func list<T>(_ values: [T], _ body: (T) -> JSON) -> JSON { .array(values.map(body)) }

    static func list(_ values: [String]) -> JSON { list(values) { JSON($0) } }

    init(optional value: String?) { self = value.map { JSON($0) } ?? .null }

    /// Metrics by name. NaN and the infinities have no form in JSON: they become null, which readers in
    /// every language understand, where Python's bare `NaN` makes most of them fail.
    init(metrics: [String: Double]) {
        self = .object(metrics.sorted { $0.key < $1.key }.map { Member($0.key, .number($0.value)) })
    }

    /// Metadata by name, whose values are JSON texts; one that is not stands there as a string.
    init(metadata: [String: String]) {
        self = .object(
            metadata.sorted { $0.key < $1.key }.map { name, text in
                Member(name, (try? JSON(parsing: [UInt8](text.utf8))) ?? .string(text))
            })
    }

    /// The document as it goes to standard output.
    var line: [UInt8] { serialized() + [UInt8(ascii: "\n")] }
}

extension JSON {
    /// What `list` knows of an iteration; its metadata is read with the manifest, so that is only in `show`.
    init(_ info: IterationInfo) {
        self = .fields(
            ("run", JSON(info.run)), ("step", JSON(info.step)), ("id", JSON(info.idText)),
            ("createdAt", JSON(Timestamp(info.createdAt).iso8601)),
            ("parent", JSON(optional: info.parentText)),
            ("layout", JSON(info.layout)), ("tensors", JSON(info.tensors)), ("files", JSON(info.files)),
            ("logicalBytes", JSON(info.logicalBytes)), ("storedBytes", JSON(info.storedBytes)),
            ("metrics", JSON(metrics: info.metrics)), ("notes", .list(info.notes)),
            ("pins", .list(info.pins)), ("superseded", JSON(info.superseded)))
    }

    init(_ tensor: TensorInfo) {
        self = .fields(
            ("name", JSON(tensor.name)), ("dtype", JSON(tensor.dtype)),
            ("shape", .list(tensor.shape) { JSON($0) }),
            ("bytes", JSON(tensor.bytes)), ("group", JSON(tensor.group)), ("pieces", JSON(tensor.pieces)),
            ("file", JSON(optional: tensor.file)))
    }

    init(_ file: FileInfo) {
        self = .fields(
            ("path", JSON(file.path)), ("bytes", JSON(file.bytes)), ("kind", JSON(file.kind.rawValue)),
            ("mode", JSON(file.mode)), ("modifiedAt", JSON(Timestamp(file.modifiedAt).iso8601)),
            ("target", JSON(optional: file.target)))
    }

    init(_ pin: PinInfo) {
        self = .fields(
            ("name", JSON(pin.name)), ("run", JSON(pin.run)), ("step", JSON(pin.step)), ("id", JSON(pin.id)))
    }

    init(_ deleted: DeletedIteration) {
        self = .fields(
            ("run", JSON(deleted.run)), ("step", JSON(deleted.step)), ("id", JSON(deleted.id)),
            ("reason", JSON(deleted.reason)))
    }

    init(_ damaged: DamagedIteration) {
        self = .fields(
            ("run", JSON(damaged.run)), ("step", JSON(damaged.step)), ("id", JSON(damaged.id)),
            ("tensors", .list(damaged.tensors)), ("files", .list(damaged.files)))
    }

    init(_ result: RestoreResult) {
        self = .fields(
            ("run", JSON(result.run)), ("step", JSON(result.step)), ("id", JSON(result.id)),
            ("path", JSON(result.path)), ("files", JSON(result.files)), ("bytes", JSON(result.bytes)),
            ("seconds", JSON(result.seconds)), ("damagedFiles", .list(result.damagedFiles)),
            ("warnings", .list(result.warnings)))
    }
}

import ArgumentParser
import Cairn

struct ShowCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show one iteration.",
        discussion: """
            Tensors are those of the model, whole, under the names that it has for them, whatever files and \
            ranks they lie in, and those of the optimizer where it is kept by the names of the parameters. \
            Whatever else the files hold is listed as it is stored, with its file.

            With --json, tensors and files are always part of the document.

            Examples:
              cairn show latest
              cairn show main@500 --tensors
              cairn show best:eval_loss --files
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Flag(help: "List its tensors.")
    var tensors = false

    @Flag(help: "List its files.")
    var files = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let details = try session.store.show(reference)
        return Answer(json: JSON(details), text: text(details, session.style))
    }

    private func text(_ details: IterationDetails, _ style: Style) -> String {
        var parts = [Self.summary(details, style)]
        if tensors { parts.append(Self.table(details.tensors, style)) }
        if files { parts.append(Self.table(details.files, style)) }
        return parts.joined(separator: "\n\n")
    }

    static func summary(_ details: IterationDetails, _ style: Style) -> String {
        let info = details.info
        var fields = Fields()
        fields.add("iteration", "\(info.run)@\(info.step)" + (info.superseded ? " (superseded)" : ""))
        fields.add("id", info.idText)
        fields.add("parent", info.parentText ?? "")
        fields.add("layout", info.layout)
        fields.add(
            "saved", "\(Timestamp(info.createdAt).text) (\(Units.age(of: info.createdAt, now: style.now)))")
        fields.add(
            "size", Sentences.contents(bytes: info.logicalBytes, files: info.files, tensors: info.tensors))
        fields.add("stored", Units.size(info.storedBytes))
        for group in Self.groups(details.tensors) { fields.add(group.name, group.value) }
        for fact in details.understood { fields.add(fact.name, fact.value) }
        for (index, metric) in info.metrics.sorted(by: { $0.key < $1.key }).enumerated() {
            fields.add(index == 0 ? "metrics" : "", "\(metric.key) \(Units.value(metric.value))")
        }
        for (index, item) in info.metadata.sorted(by: { $0.key < $1.key })
            .enumerated()
        {
            fields.add(index == 0 ? "metadata" : "", "\(item.key) = \(item.value)")
        }
        for (index, note) in info.notes.enumerated() { fields.add(index == 0 ? "notes" : "", note) }
        fields.add("pins", info.pins.joined(separator: ", "))
        return fields.text
    }

    /// What the tensors of the model and of the optimizer come to: elements, bytes, and types.
    private static func groups(_ tensors: [TensorInfo]) -> [(name: String, value: String)] {
        ["model", "optimizer"].compactMap { group in
            let all = tensors.filter { $0.group == group }
            // What is put together lies in files as well, perhaps in another precision.
            let whole = all.filter { $0.file == nil }
            let own = whole.isEmpty ? all : whole
            guard !own.isEmpty else { return nil }
            let elements = own.reduce(0 as UInt64) { $0 &+ $1.shape.reduce(1, &*) }
            let types = Set(own.map(\.dtype)).sorted().joined(separator: ", ")
            let bytes = own.reduce(0 as UInt64) { $0 &+ $1.bytes }
            return (group, "\(Units.count(elements, "element")) of \(types), \(Units.size(bytes))")
        }
    }

    static func table(_ tensors: [TensorInfo], _ style: Style) -> String {
        guard !tensors.isEmpty else { return "no tensors" }
        var table = Table([
            .text("TENSOR", minimum: 20), .text("DTYPE"), .text("SHAPE", minimum: 8, .end), .number("SIZE"),
            .text("PIECES", minimum: 6), .text("GROUP", minimum: 6, .end), .text("FILE", minimum: 8),
        ])
        for tensor in tensors {
            table.add([
                tensor.name, tensor.dtype, text(tensor.shape), Units.size(tensor.bytes),
                tensor.pieces > 1 ? Units.grouped(tensor.pieces) : "", tensor.group, tensor.file ?? "",
            ])
        }
        return table.text(style)
    }

    static func text(_ shape: [UInt64]) -> String {
        "[" + shape.map { "\($0)" }.joined(separator: ", ") + "]"
    }

    static func table(_ files: [FileInfo], _ style: Style) -> String {
        guard !files.isEmpty else { return "no files" }
        var table = Table([.text("FILE", minimum: 20), .number("SIZE"), .number("MODE"), .text("MODIFIED")])
        for file in files {
            var path = file.path
            if file.kind == .folder { path += "/" }
            if let target = file.target { path += " -> \(target)" }
            table.add([
                path, file.kind == .file ? Units.size(file.bytes) : "", String(file.mode & 0o7777, radix: 8),
                Timestamp(file.modifiedAt).text,
            ])
        }
        return table.text(style)
    }
}

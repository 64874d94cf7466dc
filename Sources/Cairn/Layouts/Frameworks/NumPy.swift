internal import Platform
internal import TensorFormats

/// Arrays that `numpy.savez` writes, such as a training loop's parameters: `params_step_100.npz`.
struct NumPy: Layout {
    var name: String { "npz" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "NumPy's .npz", splits: true, resumes: false, exportsTo: nil, exportsToHuggingFace: false)
    }

    private static let ending = ".npz"

    /// Only where a name says that it is a step: data come in such files more often than parameters.
    func candidates(in output: OutputFolder) throws -> [Candidate] {
        output.names.filter { $0.hasSuffix(Self.ending) && output.hasFile($0) }.compactMap { name in
            let said = CheckpointName(name.dropLast(Self.ending.count))
            guard said.isNumbered, !said.isPart else { return nil }
            return Candidate(name: name, path: name, step: said.order, mayBeAnything: true)
        }
    }

    func step(ofFile name: String) -> UInt64? {
        name.hasSuffix(Self.ending) ? CheckpointName(name.dropLast(Self.ending.count)).order : nil
    }

    func recognises(_ view: CheckpointView) throws -> Bool {
        guard let file = view.onlyFile, file.path.hasSuffix(Self.ending) else { return false }
        return try file.size == 0 || view.read(file, 0..<min(2, file.size)) == Array("PK".utf8)
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        guard let file = view.onlyFile else { return result }
        if let fault = try view.fault(inTensors: file.path) { result.faults.append(fault) }
        let said = CheckpointName(file.path.dropLast(Self.ending.count))
        (result.epoch, result.metrics) = (said.epoch.map { Double($0) }, said.metrics)
        if let map = try? view.tensors(in: file.path) {
            result.facts.append(("arrays", String(map.tensors.count)))
        }
        return result
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part { .model }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }
}

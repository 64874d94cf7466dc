internal import Platform
internal import TensorFormats

extension DeepSpeed {
    /// Each parameter has a folder, with a file of each part of its state; with ZeRO 3 in one row.
    func universal(
        _ view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState, _ path: String
    ) throws -> Assembly {
        let shapes = Dictionary(state.shapes.joined().map { ($0.name, $0.shape) }) { first, _ in first }
        let known = state.shapes.joined().map(\.name).filter { files.parameters[$0] != nil }
        let names = known + Set(files.parameters.keys).subtracting(known).sorted()
        var assembly = try parameters(names, view, files, shapes)
        if files.statesAreDivided {
            let ranks = (files.states.keys.map(\.data).max() ?? 0) + 1
            assembly.tensors += try frozen(view, files, state, ranks: Int(ranks))
        }
        assembly.tensors = try merged(
            state, path, weights: assembly.tensors, isEmptied: files.statesAreDivided)
        return assembly
    }

    /// - Parameter shapes: of those that may be stored in a row.
    func parameters(
        _ names: [String], _ view: CheckpointView, _ files: DeepSpeedFiles, _ shapes: [String: [UInt64]]
    ) throws -> Assembly {
        var assembly = Assembly()
        for name in names {
            for file in files.parameters[name] ?? [] where file.hasSuffix(".pt") && file != "step.pt" {
                let part = file.dropLast(3)
                let tensor = try parameter(
                    part == "fp32" ? name : "\(part).\(name)", "zero/\(name)/\(file)", view, shapes[name])
                if part == "fp32" {
                    assembly.tensors.append(tensor)
                } else {
                    assembly.optimizer.append(tensor)
                }
            }
        }
        return assembly
    }

    /// - Parameter known: the shape, where the file may have but a row.
    private func parameter(
        _ name: String, _ path: String, _ view: CheckpointView, _ known: [UInt64]?
    ) throws -> Assembly.Tensor {
        let root = try view.wantedTree(in: path).root
        guard let tensor = (root["param"] ?? root).tensor else {
            throw Assembly.refused("\(path) has no tensor", path)
        }
        let shape = tensor.shape.count == 1 ? known ?? tensor.shape : tensor.shape
        guard shape.product == tensor.count else {
            throw Assembly.refused("\(path) has \(tensor.count) elements, which is not its shape", path)
        }
        let (stored, dtype) = try tensor.stored(in: path)
        let row = Assembly.Piece(
            file: path, tensor: stored, place: .run(start: 0, count: tensor.count, from: 0))
        return .init(name: name, dtype: dtype, shape: shape, pieces: tensor.count == 0 ? [] : [row])
    }
}

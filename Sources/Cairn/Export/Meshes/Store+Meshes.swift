internal import Platform
internal import TensorFormats

extension Store {
    /// What the options, another iteration or the exported one itself say of ranks.
    /// - Throws: `.usage` where they contradict each other, or don't say enough.
    func mesh(_ subject: ExportSubject) throws -> ExportMesh {
        let options = subject.options
        if options.mapsOf != nil, options.maps != nil {
            throw CairnError(
                .usage, "--maps-of and --maps can't both say how tensors are cut; pass one of them")
        }
        if options.isUnified {
            guard options.mesh == nil, options.mapsOf == nil, options.maps == nil else {
                throw CairnError(
                    .usage,
                    "--unified writes complete tensors, so --mesh, --maps-of and --maps mean nothing beside it"
                )
            }
            return .single
        }
        let mesh: DeviceMesh?
        do {
            mesh = try options.mesh.map { text throws(TensorFileError) in try DeviceMesh(parsing: text) }
        } catch {
            throw CairnError(error)
        }
        if let path = options.maps {
            guard let mesh else {
                throw CairnError(
                    .usage,
                    "--maps says which axes of a mesh cut a tensor; pass --mesh as well, such as --mesh dp=2,tp=4"
                )
            }
            return ExportMesh(
                mesh, rules: try TensorMapRules(parsing: try ExportSubject.read(path), path: path), path: path
            )
        }
        if let reference = options.mapsOf { return try self.mesh(mesh, like: reference) }
        if let own = try metadata(subject.view) {
            return ExportMesh(mesh, like: own, origin: "\(subject.info.run)@\(subject.info.step)")
        }
        guard mesh == nil else {
            throw CairnError(
                .usage,
                "\(subject.info.run)@\(subject.info.step) does not say how its tensors are cut; pass --maps with rules, or "
                    + "--maps-of with an iteration of MindSpore Transformers 2.0")
        }
        return .single
    }

    private func mesh(_ mesh: DeviceMesh?, like reference: String) throws -> ExportMesh {
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        guard let other = try metadata(view(of: info, manifest, lock)) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) has no \(MindFormersMetadata.fileName), so it does not say how tensors are cut; "
                    + "--maps-of takes an iteration of several ranks of MindSpore Transformers 2.0")
        }
        return ExportMesh(mesh, like: other, origin: "\(info.run)@\(info.step)")
    }

    /// - Throws: `.inconsistent` where it is damaged; of other frameworks, there is none.
    private func metadata(_ view: CheckpointView) throws -> MindFormersMetadata? {
        guard view.files.contains(where: { MindFormersFileName(parsing: $0.path) != nil }),
            let bytes = try view.read(MindFormersMetadata.fileName)
        else { return nil }
        do {
            return try MindFormersMetadata(parsing: bytes)
        } catch {
            throw CairnError(.inconsistent, "\(error)", path: MindFormersMetadata.fileName)
        }
    }
}

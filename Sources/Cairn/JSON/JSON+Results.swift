package import TensorFormats

extension JSON {
    package init(_ result: SaveResult) {
        var members: [JSON.Member] = [
            ("run", JSON(result.run)), ("step", JSON(result.step)), ("id", JSON(optional: result.id)),
            ("layout", JSON(result.layout)), ("tensors", JSON(result.tensors)), ("files", JSON(result.files)),
            ("logicalBytes", JSON(result.logicalBytes)), ("newBytes", JSON(result.newBytes)),
            ("storedBytes", JSON(result.storedBytes)), ("chunks", JSON(result.chunks)),
            ("newChunks", JSON(result.newChunks)), ("seconds", JSON(result.seconds)),
            ("unchanged", JSON(result.unchanged)), ("dryRun", JSON(result.dryRun)),
            ("replaced", JSON(optional: result.replaced)),
            ("superseded", .list(result.superseded) { JSON($0) }),
            ("deletedIterations", .list(result.deleted) { JSON($0) }),
            ("reclaimedBytes", JSON(result.reclaimedBytes)), ("warnings", .list(result.warnings)),
        ].map { JSON.Member($0, $1) }
        if result.isPart { members.append(.init("isPart", JSON(true))) }
        if let id = result.iteration { members.append(.init("iteration", JSON(id))) }
        self = .object(members)
    }

    /// What became of one of an output folder's iterations; where it was saved, with the fields of that.
    package init(_ one: SavedIteration) {
        var members: [JSON.Member] = [
            .init("name", JSON(one.name)), .init("layout", JSON(optional: one.layout)),
            .init("step", JSON(optional: one.step)), .init("moved", JSON(one.isMoved)),
            .init("kept", JSON(optional: one.kept)),
        ]
        switch one.outcome {
        case .saved(let result):
            members.append(.init("outcome", JSON("saved")))
            members += JSON(result).members!.filter { !["layout", "step"].contains($0.key) }
        case .known: members.append(.init("outcome", JSON("known")))
        case .left: members.append(.init("outcome", JSON("left")))
        case .refused(let reasons):
            members += [.init("outcome", JSON("refused")), .init("reasons", .list(reasons))]
        case .failed(let error):
            members += [.init("outcome", JSON("failed")), .init("reasons", .list([error.message]))]
        }
        self = .object(members)
    }

    package init(_ result: RestoreResult) {
        self = .fields(
            ("run", JSON(result.run)), ("step", JSON(result.step)), ("id", JSON(result.id)),
            ("path", JSON(result.path)), ("files", JSON(result.files)), ("bytes", JSON(result.bytes)),
            ("seconds", JSON(result.seconds)), ("damagedFiles", .list(result.damagedFiles)),
            ("warnings", .list(result.warnings)))
    }

    /// - Parameter aside: bytes of all that earlier resumptions have set aside.
    package init(_ result: ResumeResult, aside: UInt64) {
        self = .fields(
            ("path", JSON(optional: result.path)), ("run", JSON(optional: result.run)),
            ("step", JSON(optional: result.step)), ("id", JSON(optional: result.id)),
            ("source", JSON(optional: result.source?.rawValue)),
            ("replaced", JSON(optional: result.replaced)),
            (
                "setAside",
                .list(result.setAside) {
                    .fields(
                        ("path", JSON($0.path)), ("newPath", JSON($0.newPath)), ("reasons", .list($0.reasons))
                    )
                }
            ),
            ("setAsideBytes", JSON(aside)), ("notes", .list(result.notes)))
    }

    package init(_ layout: LayoutInfo) {
        let abilities = layout.abilities
        self = .fields(
            ("name", JSON(layout.name)), ("title", JSON(abilities.title)), ("splits", JSON(abilities.splits)),
            ("resumes", JSON(abilities.resumes)), ("exportsTo", JSON(optional: abilities.exportsTo)),
            ("exportsToHuggingFace", JSON(abilities.exportsToHuggingFace)))
    }

    package init(_ found: FoundIteration) {
        self = .fields(
            ("name", JSON(found.name)), ("path", JSON(found.path)), ("layout", JSON(optional: found.layout)),
            ("step", JSON(optional: found.step)), ("epoch", JSON(optional: found.epoch)),
            ("complete", JSON(found.isComplete)), ("reasons", .list(found.faults)),
            ("missing", .list(found.missing)), ("unhealthy", JSON(optional: found.unhealthy)),
            ("worldSize", JSON(optional: found.worldSize)),
            ("metrics", JSON(metrics: found.metrics)),
            ("facts", .object(found.facts.map { JSON.Member($0.name, JSON($0.value)) })))
    }
}

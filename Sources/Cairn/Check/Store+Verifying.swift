internal import ChunkStore
internal import Platform

extension Store {
    /// Checks that everything can be read back: journal, index, tables and, unless `quick`, every byte of every chunk.
    ///
    /// Chunks that are found damaged are marked, so that the next save that holds the same bytes writes them again. Where the index
    /// is damaged, the rest is checked without it. That needs a store that was opened with `repairing`, as opening it otherwise reads
    /// the index already, and what is damaged there may crash whoever reads it.
    /// - Parameter references: only these iterations; all where there are none.
    public func verify(
        _ references: [String] = [], quick: Bool = false, progress: Progress = .silent
    ) throws -> VerifyReport {
        let start = Clock.monotonic
        defer { progress.end() }
        let structure = try chunks.checkStructure()
        var report = VerifyReport(quick: quick, problems: structure.problems)
        do {
            let store = Store(try chunks.readable(structure), settings)
            try store.verify(references, structure, &report, progress)
        } catch let error as CairnError where error.code == .damage && !structure.problems.isEmpty {
            report.problems.append("Nothing else could be checked: \(error.message).")
        }
        report.seconds = Clock.monotonic - start
        return report
    }

    private func verify(
        _ references: [String], _ structure: ChunkStore.StructureReport, _ report: inout VerifyReport,
        _ progress: Progress
    ) throws {
        let infos = references.isEmpty ? try iterations() : try references.map { try resolve($0) }
        // Training goes on meanwhile, and its policies.
        var survey = try survey(
            infos, quick: report.quick, ifThere: references.isEmpty, progress: progress)
        report.chunks = survey.checkedChunks
        report.checkedBytes = survey.checkedBytes
        var frame = DamageSurvey()
        frame.chunks = try chunks.chunks(in: structure.damagedPacks)
        for info in infos where !survey.gone.contains(info.number) {
            do {
                if let damaged = try survey.damage(info, self) {
                    report.damaged.append(damaged)
                } else if structure.damagedIterations.contains(info.number) {
                    report.damaged.append(DamagedIteration(info))
                } else if let damaged = try frame.damage(info, self) {
                    report.damaged.append(damaged)
                }
                report.problems += survey.sentences(info)
            } catch let error as CairnError where error.code == .notFound && references.isEmpty {
                survey.gone.insert(info.number)
            }
        }
        report.iterations = infos.count - survey.gone.count
        // What a collection has removed can't be read either; somebody may have saved it again.
        if !survey.gone.isEmpty { survey.chunks = survey.chunks.filter { (try? chunks.chunk($0)) == nil } }
        if !survey.chunks.isEmpty { try chunks.markDamaged(survey.chunks) }
        if !report.quick { try chunks.unmarkWhole(except: survey.chunks) }
    }

    /// Forgets every iteration that can't be read whole, but for pinned ones.
    public func deleteDamaged() throws -> DeleteResult {
        let infos = try iterations()
        let survey = try survey(infos, quick: false, ifThere: true, progress: .silent)
        let damaged = try infos.filter { info in
            guard !survey.gone.contains(info.number) else { return false }
            do { return try survey.damage(info, self) != nil } catch let error as CairnError
                where error.code == .notFound
            {
                return false
            }
        }
        let numbers = Set(damaged.filter(\.pins.isEmpty).map(\.number))
        var result = try delete { scope in
            scope.iterations.filter { numbers.contains($0.number) && $0.pins.isEmpty }
        }
        result.skipped += damaged.filter { !$0.pins.isEmpty }.map {
            DeletedIteration($0, "pinned as \($0.pins[0])")
        }
        return result
    }
}
